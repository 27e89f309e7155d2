"""Functions that read a queue in loops of their own, where Lambda's trigger does not do: docs/long-tasks.md.

supervisor, every minute ──▶ as many tokens as the queue's depth needs; a token whose loop died is handed out again
                                    │ invokes
                                    ▼
                   token 3 ──▶ loop: receive, run, delete, …  ──▶ the same function again, with the token
"""
