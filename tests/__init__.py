"""The tests mirror streamkit/. A slow machine is no failure, so hypothesis measures no time."""

from hypothesis import HealthCheck, settings

settings.register_profile("streamkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("streamkit")
