# SPDX-License-Identifier: MIT
"""Programs that run in the kernel: loaded, swapped, refused."""

import errno
import random

import pytest
from helpers.kernels import Kernel
from helpers.mlk_abi import program_of, refused, scaled
from helpers.models import network

from pymlk import Model, Program
from pymlk.errors import ProxyError
from pymlk.image import make_image
from pymlk.proxy import Proxy

CHOICES = [[8, -3], [64, 0], [1024, 99]]
SCALES = ((0, 1, 0), (100, 3, 2), (-5, 1 << 20, 24), (0, 2**31 - 1, 62))


def choosing(seed: int = 1) -> bytes:
    """4 features -> 3 choices."""
    program = program_of(network((4, 8, 3), seed=seed))
    return make_image(program, id=seed, scales=SCALES, choices=CHOICES)


@pytest.fixture
def following(owner: Proxy) -> Proxy:
    owner.set_mode("recommendation")
    return owner


def outputs(model: Model, row: list[int]) -> list[int]:
    """What the same program says in Python."""
    zero = model.input_quant.zero_point
    for i, (value, (offset, multiplier, shift)) in enumerate(
        zip(row, SCALES, strict=True)
    ):
        q = zero + scaled(value - offset, multiplier, shift)
        model.input[0, i] = max(-128, min(127, q))
    model.invoke()
    return [model.output[0, i] for i in range(model.output.shape[1])]


def rows(count: int) -> list[list[int]]:
    rng = random.Random(5)
    edge = [-(1 << 63), (1 << 63) - 1, 0, 1, -1, 127, -128, 1 << 32]
    return [
        [
            rng.choice((rng.randint(-200, 200), rng.choice(edge), rng.getrandbits(40)))
            for _ in range(4)
        ]
        for _ in range(count)
    ]


def test_choices(kernel: Kernel, following: Proxy) -> None:
    following.load(choosing())
    assert following.info()["program_id"] == 1
    assert following.read_attr("program_diag") == "no error"
    model = Model(Program(program_of(network((4, 8, 3)))))
    taken = set()
    for row in rows(100):
        output = outputs(model, row)
        best = output.index(max(output))
        decision = kernel.decide(*row)
        assert decision.use
        assert decision.value == CHOICES[best], row
        taken.add(best)
    assert len(taken) == 3
    assert following.read_attr("stats/inferences") == "100"


def test_linear_outputs(kernel: Kernel, following: Proxy) -> None:
    program = program_of(network((4, 8, 2), softmax=False))
    out = ((128, 64, 0), (0, 1, 1))
    following.load(make_image(program, id=7, scales=SCALES, out=out))
    model = Model(Program(program))
    zero = model.output_quant.zero_point
    for row in rows(100):
        output = outputs(model, row)
        first = min(max(128 + 64 * (output[0] - zero), 4), 4096)
        second = min(max(scaled(output[1] - zero, 1, 1), -100), 100)
        decision = kernel.decide(*row)
        assert decision.value == [4 + (first - 4 + 2) // 4 * 4, second]


def test_raw_programs_only_infer(kernel: Kernel, following: Proxy) -> None:
    program = program_of(network((4, 15, 5, 4), softmax=False))
    with refused(errno.ENODATA):
        kernel.infer(4, 1, 2, 3, 4)
    following.load(make_image(program, id=1))
    model = Model(Program(program))
    for row in ([0, 0, 0, 0], [-128, 127, 5, -6]):
        for i, value in enumerate(row):
            model.input[0, i] = value
        model.invoke()
        assert kernel.infer(4, *row) == [model.output[0, i] for i in range(4)]
    assert kernel.decide(1, 2, 3, 4).use is False


def test_a_swap(kernel: Kernel, following: Proxy) -> None:
    for seed in (1, 2, 3):
        following.load(choosing(seed))
        info = following.info()
        assert (info["program_id"], info["program_swaps"]) == (seed, seed)
    assert following.mode == "recommendation"


def test_by_sysfs(kernel: Kernel, running: Proxy) -> None:
    """Who is not the owner writes to the file instead."""
    running.load(choosing(4))
    assert running.read_attr("program_id") == "4"


def test_large_images(kernel: Kernel) -> None:
    """More than one message or page."""
    kernel.register("wide", 4, 2, 8, 1 << 20, 1 << 16, 1 << 20)
    with Proxy("wide", root=kernel.root) as proxy:
        program = program_of(network((4, 300, 300, 3)))
        image = make_image(program, id=5, scales=SCALES, choices=CHOICES)
        assert len(image) > 70_000
        proxy.load(image)
        assert proxy.info()["program_id"] == 5
        proxy.own()
        proxy.load(image)
        assert proxy.info()["program_swaps"] == 2


def bad_images() -> dict[str, bytes]:
    """Each is a good image with one thing wrong."""
    good = choosing()
    at = int.from_bytes(good[12:16], "little")
    small = program_of(network((4, 8, 2)))
    slow = program_of(network((4, 300, 300, 3)))

    def poke(offset: int, value: bytes) -> bytes:
        return good[:offset] + value + good[offset + len(value) :]

    def number(offset: int, value: int) -> bytes:
        return poke(offset, value.to_bytes(4, "little"))

    return {
        "version": poke(4, b"\2"),
        "header_bytes": poke(6, b"\x38"),
        "place of the program": number(12, at + 16),
        "n_features": number(24, 5),
        "n_knobs": number(28, 1),
        "head": number(32, 3),
        "n_choices": number(36, 65),
        "reserved": number(40, 1),
        "damaged weights": poke(len(good) - 40, b"\xff\x00\xff"),
        "shift": number(48 + 12, 63),
        "multiplier": number(48 + 8, 1 << 31),
        "choice not possible": poke(48 + 64, (9).to_bytes(8, "little")),
        "too few outputs": make_image(small, id=1, scales=SCALES, choices=CHOICES),
        "too slow": make_image(slow, id=1, scales=SCALES, choices=CHOICES),
    }


@pytest.mark.parametrize("name", bad_images())
def test_a_bad_image_is_refused_and_the_old_one_stays(
    kernel: Kernel, following: Proxy, name: str
) -> None:
    following.load(choosing(9))
    before = kernel.decide(10, 20, 30, 40)
    assert before.use
    with pytest.raises(ProxyError, match="program refused") as found:
        following.load(bad_images()[name])
    expected = {
        "version": errno.EBADMSG,
        "header_bytes": errno.EBADMSG,
        "damaged weights": errno.EBADMSG,
        "choice not possible": errno.ERANGE,
        "too slow": errno.E2BIG,
    }
    assert found.value.errno == expected.get(name, errno.EINVAL)
    assert (following.mode, following.reason) == ("emergency", "program")
    assert following.read_attr("program_diag") != "no error"
    assert following.read_attr("stats/bad_programs") == "1"
    assert following.info()["program_id"] == 9
    following.set_mode("recommendation")
    assert kernel.decide(10, 20, 30, 40).value == before.value


def test_what_is_no_image_changes_nothing(running: Proxy) -> None:
    """Nor does one that is refused before it was there as a whole."""
    running.load(choosing(9))
    running.set_mode("recommendation")
    good = choosing()
    for data, error in (
        (b"x" * 100, errno.EBADMSG),
        (good[:47], errno.EBADMSG),
        (good + b"x", errno.EBADMSG),
        (good[:8] + (1 << 20).to_bytes(4, "little") + good[12:], errno.EBADMSG),
        (make_image(bytes(1 << 19), id=1), errno.E2BIG),
    ):
        with refused(error):
            running.load(data)
    assert running.mode == "recommendation"
    assert running.info()["program_id"] == 9
