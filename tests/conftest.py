"""Fixtures that tests of several folders use, and how properties are tested."""

from hypothesis import HealthCheck, settings

from tests.s3 import s3, s3_server

__all__ = ["s3", "s3_server"]

# Nothing may fail because the machine is busy: neither by a limit of time, nor for the time that examples take to make.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
