"""The tests mirror streamkit/. A slow machine is no failure, so hypothesis measures no time."""

from hypothesis import settings

settings.register_profile("streamkit", deadline=None)
settings.load_profile("streamkit")
