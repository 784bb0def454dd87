"""Arrays to a device and back through kept memory. Without a card the memory is not page-locked, and the device is the CPU."""

import numpy as np
import torch

from rlsuite.acting.crossing import Crossing

CPU = torch.device("cpu")


def test_both_ways_keep_values_dtypes_and_strides() -> None:
    crossing = Crossing(CPU, buffered=True)
    planes = np.moveaxis(np.arange(96, dtype=np.uint8).reshape(1, 2, 4, 4, 3), -1, 2)  # [1,L,S,H,W], in memory [1,L,H,W,S]
    for k in (0, 1):
        there = crossing.to_device((planes + k, {"reward": np.float32([k, 2]), "mask": np.array([True, False])}))
        back = crossing.to_host(there)
        np.testing.assert_array_equal(back[0], planes + k)
        np.testing.assert_array_equal(back[1]["reward"], [k, 2])
        assert [leaf.dtype.name for leaf in (back[0], *back[1].values())] == ["uint8", "float32", "bool"]
        assert there[0].stride() == torch.from_numpy(planes).stride()


def test_what_came_before_stays_as_it_was() -> None:
    crossing = Crossing(CPU, buffered=True)
    first, second = np.zeros(3, np.int64), np.ones(3, np.int64)
    there = crossing.to_device(first)
    back = crossing.to_host(there)
    crossing.to_host(crossing.to_device(second))
    assert not there.any()
    assert not back.any()


def test_the_cpu_shares_memory() -> None:
    crossing, array = Crossing(CPU), np.zeros(3)
    assert np.shares_memory(crossing.to_host(crossing.to_device(array)), array)
