# SPDX-License-Identifier: MIT
"""A policy is right or is refused with file, key, what was found and expected."""

import re
from pathlib import Path

import pytest
from helpers.fakesys import POLICY, PROXY_POLICY, FakeSys

from pymlk.errors import PolicyError
from pymlk.policy import find_policy, load
from pymlk.write import Layer, mlp


def test_the_test_policy_loads(fake_sys: FakeSys) -> None:
    plan = load(str(fake_sys.policy))
    assert plan["name"] == "test"
    assert plan["knob"]["values"] == [8, 32, 128]
    assert plan["objective"] == "reads"
    assert plan["guard"]["min_activity"] is None
    assert plan["program"][:4] == b"MLKP"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_step = 1", "max_step = 0", r"guard\.max_step: .*>= 1.*found 0"),
        ("max_step = 1", 'max_step = "x"', r"guard\.max_step: .*int.*str.*found 'x'"),
        ("settle = 1", "setle = 1", r"guard.*unknown field `setle`"),
        ('name = "test"', "", r"missing required field `name`"),
        ('name = "test"', 'name = "Über test"', r"name: .*found 'Über test'"),
        ("values = [8, 32, 128]", "values = [32, 8, 128]", "expected ascending"),
        ("default = 32", "default = 33", r"knob\.default: 33 found, expected one of"),
        ('field = "reads"', 'field = "raeds"', r"feature\[0\]\.field: field 'raeds'"),
        ('maximise = "reads"', 'maximise = "x"', r"objective\.maximise: field 'x'"),
        ('kind = "delta"', 'kind = "median"', r"feature\[0\]\.kind: .*'median'"),
        ('kind = "delta"', 'kind = "ratio"', r"feature\[0\]\.over: missing"),
        ('kind = "delta"', 'kind = "value"\nover = "ra"', r"feature\[0\]\.over: means"),
        ("std = 10.0", "std = 0.0", r"feature\[0\]\.std: .*> 0.*found 0"),
        ("std = 10.0", "clip = [3, 1]", r"feature\[0\]\.clip: \[3.0, 1.0\] found"),
        ("std = 10.0", "trough_s = 9.0", r"feature\[0\]\.trough_s: needs log2 = true"),
        (
            "std = 10.0",
            "log2 = true\npeak_s = 1.0\ntrough_s = 9.0",
            r"feature\[0\]\.trough_s: peak_s is there",
        ),
        ("/stat[0]", "/stat[", r"fields\.reads: "),
        ('"{device}/stat[0]"', '"/sys/*/x"', r"fields\.reads: .*wildcards"),
        ('devices = "/sys/block/*"', "", r"fields\.reads: .*`devices` is not set"),
        ("/sys/block/*", "/sys/*/a*", r"devices: .*last part only"),
        ('path = "{device}/queue/read_ahead_kb"', 'path = "/x"', r"knob\.path: '/x'"),
        ("interval_ms = 10", "interval_ms = 10.5", r"interval_ms: .*found 10\.5"),
        ("interval_ms = 10", "interval_ms = ", r"line 4"),
        ("interval_ms = 10", "interval_ms = 0", r"interval_ms: 0 found, 1 or more"),
        ("model.tflite", "other.tflite", r"model\.file: .*No such file"),
    ],
)
def test_a_wrong_policy_says_where(
    fake_sys: FakeSys, old: str, new: str, message: str
) -> None:
    assert old in POLICY
    fake_sys.write_policy(POLICY.replace(old, new, 1))
    with pytest.raises(PolicyError, match=message) as caught:
        load(str(fake_sys.policy))
    assert str(fake_sys.policy / "policy.toml") in str(caught.value)


def test_a_policy_may_name_models_in_the_kernel(fake_sys: FakeSys) -> None:
    fake_sys.write_policy(PROXY_POLICY.replace("interval_ms = 10", "interval_ms = 0"))
    plan = load(str(fake_sys.policy))
    assert (plan["proxy"], plan["knob"]["path"]) == ("test/*", "ra")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("test/*", "test", r"proxy: 'test' found, expected SUBSYSTEM/MODEL"),
        ("test/*", "/sys/a/b", r"proxy: '/sys/a/b' found"),
        ('"reads"', '"/proc/x"', r"fields\.reads: '/proc/x' found, .* features"),
        ('path = "ra"', 'path = "a b"', r"knob\.path: 'a b' found, .* knobs"),
        ("skip =", 'devices = "/x/*"\nskip =', r"devices: means nothing"),
        ("[guard]", '[objective]\nmaximise = "reads"\n[guard]', r"objective: means"),
    ],
)
def test_a_wrong_policy_of_a_proxy_says_where(
    fake_sys: FakeSys, old: str, new: str, message: str
) -> None:
    assert old in PROXY_POLICY
    fake_sys.write_policy(PROXY_POLICY.replace(old, new, 1))
    with pytest.raises(PolicyError, match=message):
        load(str(fake_sys.policy))


def test_the_model_must_fit(fake_sys: FakeSys) -> None:
    two = Layer([[1, 1], [1, 1], [1, 1]], [0, 0, 0], [0.01], 0.25, 0, "NONE")
    path = fake_sys.policy / "model.tflite"
    path.write_bytes(mlp([two], 0.1, 0))
    with pytest.raises(PolicyError, match=r"int8 of 2, expected int8 of 1.*features"):
        load(str(fake_sys.policy))
    one = Layer([[1], [1], [1]], [0, 0, 0], [0.01], 0.25, 0, "NONE")
    path.write_bytes(mlp([one], 0.1, 0, softmax=False))
    with pytest.raises(PolicyError, match="no confidence from 0 to 1"):
        load(str(fake_sys.policy))
    path.write_bytes(b"nonsense" * 9)
    with pytest.raises(PolicyError, match=r"model\.tflite: no \.tflite model"):
        load(str(fake_sys.policy))


def test_a_ready_made_program_will_do(fake_sys: FakeSys) -> None:
    plan = load(str(fake_sys.policy))
    (fake_sys.policy / "model.mlk").write_bytes(plan["program"])
    fake_sys.write_policy(POLICY.replace("model.tflite", "model.mlk"))
    assert load(str(fake_sys.policy))["program"] == plan["program"]


def test_shipped_policies_load() -> None:
    plan = load("readahead")
    assert plan["knob"]["default"] == 128
    assert len(plan["features"]) == len({f["name"] for f in plan["features"]})


def test_an_unknown_name_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"shipped are: .*readahead"):
        find_policy("no-such-policy")
    with pytest.raises(PolicyError, match="no such file"):
        find_policy(str(tmp_path / "x.toml"))


def test_a_binary_file_is_no_policy(fake_sys: FakeSys) -> None:
    (fake_sys.policy / "policy.toml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(PolicyError, match=re.escape("UTF-8")):
        load(str(fake_sys.policy))
