"""The short form of tests/faults/soak."""
from soaking import check_flat, soak


def test_memory_is_flat_with_small_bounds(pipeline, own_redis):
    pipeline.env["WEIR_REDIS_URL"] = own_redis.url
    check_flat(soak(pipeline, own_redis.client(), 120000))
