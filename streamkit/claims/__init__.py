"""Where an envelope goes that is too large for its queue. Import a store from its own module:
``from streamkit.claims.s3 import S3Claims``.
"""
