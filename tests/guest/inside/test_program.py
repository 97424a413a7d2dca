# SPDX-License-Identifier: MIT
"""Programs in the kernel: the same answers as in Python, and every bad one refused."""

import errno
import os
import random
import threading

import pytest
from helpers.mlk_abi import (
    ARM_MODEL,
    Device,
    Proxy,
    client,
    image,
    numbers,
    program_of,
    refused,
    scaled,
)
from helpers.models import network, several

from pymlk import Model, Program

CHOICES = [[8, -3], [64, 0], [1024, 99]]
SCALES = ((0, 1, 0), (100, 3, 2), (-5, 1 << 20, 24), (0, 2**31 - 1, 62))


def network_image(seed: int = 1, **changes: int) -> bytes:
    """4 features -> 3 choices."""
    program = program_of(network((4, 8, 3), seed=seed))
    changes.setdefault("id", seed)
    return image(program, 4, 2, CHOICES, SCALES, **changes)


def linear_image(seed: int = 1, **changes: int) -> bytes:
    """4 features -> one number for each knob."""
    program = program_of(network((4, 8, 2), seed=seed, softmax=False))
    return image(program, 4, 2, None, SCALES, ((128, 64, 0), (0, 1, 1)), **changes)


def quantised(row: list[int], zero: int) -> list[int]:
    return [
        max(-128, min(127, zero + scaled(value - offset, multiplier, shift)))
        for value, (offset, multiplier, shift) in zip(row, SCALES, strict=True)
    ]


def run(program: bytes, row: list[int]) -> list[int]:
    """A program's output, by the engine in Python."""
    model = Model(Program(program))
    for i, value in enumerate(row):
        model.input[0, i] = value
    model.invoke()
    return [model.output[0, i] for i in range(model.output.shape[1])]


@pytest.fixture
def running(proxy: Proxy) -> Proxy:
    proxy.learn()
    return proxy


def rows(count: int = 200) -> list[list[int]]:
    rng = random.Random(5)
    edge = [-(1 << 63), (1 << 63) - 1, 0, 1, -1, 127, -128, 1 << 32, -(1 << 32)]
    return [
        [
            rng.choice((rng.randint(-200, 200), rng.choice(edge), rng.getrandbits(40)))
            for _ in range(4)
        ]
        for _ in range(count)
    ]


def test_choices_are_those_of_the_same_program_in_python(running: Proxy) -> None:
    program = program_of(network((4, 8, 3)))
    zero = Model(Program(program)).input_quant.zero_point
    running.write_program(network_image())
    assert running["program_id"] == "1"
    taken = set()
    for row in rows():
        # 2^63 is one more than the largest: the map takes the distance as a whole
        output = run(program, quantised(row, zero))
        best = output.index(max(output))
        decision = running.decide(*row)
        assert decision["arm"] == ARM_MODEL
        assert decision["value"] == CHOICES[best], row
        taken.add(best)
    assert len(taken) == 3
    assert running.stat("inferences") == 200


def test_linear_outputs_become_possible_values(running: Proxy) -> None:
    program = program_of(network((4, 8, 2), softmax=False))
    model = Model(Program(program))
    zeros = model.input_quant.zero_point, model.output_quant.zero_point
    running.write_program(linear_image())
    for row in rows():
        output = run(program, quantised(row, zeros[0]))
        first = 128 + 64 * (output[0] - zeros[1])
        second = scaled(output[1] - zeros[1], 1, 1)
        decision = running.decide(*row)
        first = min(max(first, 4), 4096)
        assert decision["value"] == [
            4 + (first - 4 + 2) // 4 * 4,
            min(max(second, -100), 100),
        ]


@pytest.mark.parametrize("widths", [(4, 15, 5, 4), (4, 64, 2), (4, 1)])
def test_inference_is_bit_exact(running: Proxy, widths: tuple[int, ...]) -> None:
    program = program_of(network(widths, softmax=False))
    raw = image(program, 0, 0, head=0)
    running.write_program(raw)
    rng = random.Random(7)
    for _ in range(100):
        row = [rng.randint(-128, 127) for _ in range(4)]
        words = " ".join(map(str, (widths[-1], *row)))
        assert numbers(f"infer {words}") == run(program, row)
    with refused(errno.EINVAL):
        client(f"infer {widths[-1]} 1 2 3")
    with refused(errno.EINVAL):
        client(f"infer {widths[-1] + 1} 1 2 3 4")


def test_without_a_program(running: Proxy) -> None:
    with refused(errno.ENOENT, errno.ENODATA):
        client("infer 3 1 2 3 4")
    assert running.decide(1, 2, 3, 4)["use"] is False


def test_what_is_loaded_can_be_read(running: Proxy) -> None:
    data = network_image()
    assert (running.path / "program").read_bytes() == b""
    running.write_program(data)
    assert (running.path / "program").read_bytes() == data


def test_in_pieces(running: Proxy) -> None:
    data = network_image(seed=3)
    with refused(errno.EBADMSG):
        running.write_program(data[:47])
    for size in (48, 49, 100, 4096):
        handle = os.open(running.path / "program", os.O_WRONLY)
        for at in range(0, len(data), size):
            os.pwrite(handle, data[at : at + size], at)
        os.close(handle)
    assert running["program_id"] == "3"
    assert running.stat("programs") == 4


def test_one_writer_from_the_first_byte_on(running: Proxy) -> None:
    data = network_image()
    one = os.open(running.path / "program", os.O_WRONLY)
    two = os.open(running.path / "program", os.O_WRONLY)
    with refused(errno.EBUSY, errno.EINVAL):
        os.pwrite(one, data[64:128], 64)
    os.pwrite(one, data[:64], 0)
    with refused(errno.EINVAL):
        os.pwrite(one, data[128:], 128)
    os.pwrite(one, data[:64], 0)
    with refused(errno.EBUSY):
        os.pwrite(two, data[64:128], 64)
    # who begins takes over: a writer that gave up blocks nobody
    os.pwrite(two, data[:64], 0)
    with refused(errno.EBUSY):
        os.pwrite(one, data[64:], 64)
    os.pwrite(two, data[64:], 64)
    os.close(one)
    os.close(two)
    assert running["program_id"] == "1"


def test_by_ioctl(running: Proxy, device: Device) -> None:
    device.own()
    device.load(network_image(seed=2))
    assert running["program_id"] == "2"
    info = device.info()
    assert (info.program_id, info.program_swaps) == (2, 1)
    with refused(errno.EINVAL, errno.EBADMSG):
        device.load(network_image(seed=4), size=100)
    with refused(errno.E2BIG, errno.EINVAL, errno.EBADMSG, errno.EFAULT):
        device.load(network_image(seed=4), size=1 << 31)
    assert running["program_id"] == "2"


def bad_images() -> dict[str, bytes]:
    """Each is a good image with one thing wrong."""
    good = network_image()
    at = int.from_bytes(good[12:16], "little")

    def poke(offset: int, value: bytes) -> bytes:
        return good[:offset] + value + good[offset + len(value) :]

    def other(**options: object) -> bytes:
        program = program_of(network(**options))
        return image(program, 4, 2, CHOICES)

    cases = {
        name: network_image(**{name: value})
        for name, value in {
            "version": 2,
            "header_bytes": 56,
            "n_features": 5,
            "n_knobs": 1,
            "head": 3,
            "n_choices": 65,
            "reserved": 1,
            "reserved2": 1,
            "program": at + 16,
        }.items()
    }
    return cases | {
        "no program": image(b"", 4, 2, CHOICES),
        "program of zeros": image(bytes(512), 4, 2, CHOICES),
        "damaged weights": poke(len(good) - 40, b"\xff\x00\xff"),
        "damaged checksum": poke(at + 16, b"\1\2\3\4"),
        "shift": poke(48 + 12, (63).to_bytes(4, "little")),
        "multiplier": poke(48 + 8, (1 << 31).to_bytes(4, "little")),
        "choice not possible": poke(48 + 64, (9).to_bytes(8, "little")),
        "choice out of range": poke(48 + 64 + 8, (101).to_bytes(8, "little")),
        "too few outputs": other(widths=(4, 8, 2)),
        "too few inputs": other(widths=(3, 8, 3)),
        "two inputs": image(program_of(several()), 4, 2, CHOICES),
        "too slow": other(widths=(4, 300, 300, 3)),
    }


@pytest.mark.parametrize("name", bad_images())
def test_a_bad_image_is_refused_and_the_old_one_stays(
    running: Proxy, name: str
) -> None:
    running.write_program(network_image(seed=9))
    running["mode"] = "recommendation"
    before = running.decide(10, 20, 30, 40)
    with refused(
        errno.EBADMSG,
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.E2BIG,
        errno.ENOSPC,
        errno.ERANGE,
    ):
        running.write_program(bad_images()[name])
    assert running["mode"] == "emergency"
    assert running["reason"] == "program"
    assert running["program_diag"] != "no error"
    assert running.stat("bad_programs") == 1
    assert running["program_id"] == "9"
    running["mode"] = "recommendation"
    assert running.decide(10, 20, 30, 40)["value"] == before["value"]
    running.write_program(network_image(seed=8))
    assert running["program_diag"] == "no error"


def test_what_is_no_image_at_all_changes_nothing(running: Proxy) -> None:
    running.write_program(network_image(seed=9))
    for data, error in (
        (network_image(magic=1), errno.EBADMSG),
        (b"x" * 100, errno.EBADMSG),
        (network_image(total_bytes=1 << 20), errno.E2BIG),
        (network_image(total_bytes=47), errno.EBADMSG),
    ):
        with refused(error):
            running.write_program(data)
    assert running["mode"] == "recommendation"
    assert running["program_id"] == "9"


def test_every_cut_is_refused(running: Proxy) -> None:
    """Claims of the header are believed only as far as there are bytes."""
    data = network_image()
    for cut in (*range(48, 300, 16), len(data) - 1):
        short = data[:8] + cut.to_bytes(4, "little") + data[12:cut]
        with refused(errno.EBADMSG, errno.EINVAL):
            running.write_program(short)


def test_damage_at_random(running: Proxy) -> None:
    rng = random.Random(11)
    data = network_image()
    running["options/holdout_permil"] = 0
    loaded = 0
    for _ in range(400):
        spoilt = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            spoilt[rng.randrange(len(data))] = rng.randrange(256)
        if spoilt[:12] != data[:12]:
            continue
        try:
            running.write_program(bytes(spoilt))
            loaded += 1
        except OSError:
            pass
        running["mode"] = "recommendation"
        running.decide(1, 2, 3, 4)
    # scales, choices of knobs and the id may change; the program may not
    assert loaded < 200


def test_the_budget_is_the_clients() -> None:
    data = network_image()
    program = Program(program_of(network((4, 8, 3))))
    exact = {"macs": program.macs, "arena": program.arena_bytes, "image": len(data)}
    proxy = Proxy("budget")
    for short in (None, *exact):
        limits = [size - (name == short) for name, size in exact.items()]
        client(f"register budget 4 2 8 {limits[0]} {limits[1]} {limits[2]}")
        try:
            proxy.to("running")
            if short:
                with refused(errno.ENOSPC if short == "arena" else errno.E2BIG):
                    proxy.write_program(data)
            else:
                proxy.write_program(data)
        finally:
            client("unregister")


def test_a_swap_is_all_or_nothing(running: Proxy) -> None:
    """Decisions under way see one program or the other, never a mixture."""
    row = [10, 20, 30, 40]
    answers = {}
    for seed in (1, 2, 3, 4, 5, 6):
        running.write_program(network_image(seed=seed))
        answers[seed] = tuple(running.decide(*row)["value"])
    one = 1
    two = next((seed for seed in answers if answers[seed] != answers[one]), 2)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            running.write_program(network_image(seed=one))
            running.write_program(network_image(seed=two))

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(300):
            value = tuple(running.decide(*row)["value"])
            assert value in (answers[one], answers[two])
    finally:
        stop.set()
        thread.join()
    assert running["mode"] == "recommendation"
