"""A search API: requests of API Gateway in, searches of CloudSearch or OpenSearch out, one shape of answers for both.

``api`` has the function, ``fields`` what can be asked for, ``query`` what is asked; ``structured`` and ``dsl`` are the same
query in the words of the two. See docs/search-api.md.
"""
