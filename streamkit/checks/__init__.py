"""What ``streamkit check`` knows: how a function is deployed (``deployment``), where that is read from (``template``,
``deployed``), what a processor uses (``parts``) and what goes wrong where the two don't fit (``rules``).

    template.yaml ── template ─┐                    ┌─ stream_rules ─┐
    orders.zip ───── package ──┼─▶ Deployment ──────┼─ …_rules       ├─▶ [Finding]
    AWS ─────────── deployed ──┘        ▲           └─ permissions  ─┘
                                        │
    orders:handler ─── parts ───────────┘   made with the function's own environment variables
"""
