# SPDX-License-Identifier: MIT
"""The C parser of attribute sets against a slow and simple one, on random text."""

import re
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pymlk.attrs import AttrSet, Field

SPACE = b" \t\n\r\x0b\x0c"
UNITS = (
    "% s ms us ns µs min Hz kHz MHz GHz k K M G T kB KB KiB MB MiB GB GiB TB TiB "
    "V mV uV mA uA W mW uW J mJ uJ"
).split()


# --------------------------------------------------------------- the oracle


def number(
    token: bytes,
    *,
    scale: int = 1,
    scaled: bool = False,
    unsigned: bool = False,
    hex: bool = False,
) -> int | str:
    """Return a token's value, or the reason why it has none."""
    if hex or re.match(rb"[+-]?0[xX]", token):
        match = re.fullmatch(rb"([+-]?)(?:0[xX])?([0-9a-fA-F]+)(.*)", token, re.S)
        if not match:
            return "not a number"
        sign, digits, unit = match.groups()
        if unit and (hex or unit.decode("utf-8", "replace") not in UNITS):
            return "not a number"
        value = int(digits, 16) * scale
    else:
        match = re.fullmatch(rb"([+-]?)([0-9]+)(?:\.([0-9]+))?(.*)", token, re.S)
        if not match:
            return "not a number"
        sign, digits, fraction, unit = match.groups()
        if unit and unit.decode("utf-8", "replace") not in UNITS:
            return "not a number"
        if fraction is not None and not scaled:
            return "fraction needs a scale"
        exact = Fraction(int(digits) * scale)
        if fraction is not None:
            exact += Fraction(int(fraction) * scale, 10 ** len(fraction))
        value = int(exact + Fraction(1, 2))
    if sign == b"-":
        value = -value
    low, high = (0, 2**64 - 1) if unsigned else (-(2**63), 2**63 - 1)
    return value if low <= value <= high else "overflow"


def is_unit(token: bytes) -> bool:
    return (
        0 < len(token) <= 7
        and token[:1] != b"/"
        and all(c >= 0x80 or chr(c).isalpha() or c in b"%/" for c in token)
    )


def bracketed(tokens: list[bytes]) -> list[bytes]:
    return [t for t in tokens if len(t) > 2 and t[:1] == b"[" and t[-1:] == b"]"]


def whole(text: bytes, **how: Any) -> int | str:
    tokens = text.split()
    if not tokens:
        return "empty"
    got = number(tokens[0], **how)
    odd = "no choice" if len(bracketed(tokens)) == 1 else None
    if got == "not a number":
        return odd or got
    if len(tokens) == 1:
        return got
    line = text.lstrip(SPACE).split(b"\n")[0].split()
    if len(tokens) == 2 and len(line) == 2 and is_unit(tokens[1]):
        return got
    return odd or "more than one value"


def row(text: bytes, name: bytes) -> list[bytes] | None:
    """Return what follows a name at the start of a line: a list of tokens, or None."""
    for line in text.split(b"\n"):
        line = line.lstrip(SPACE)
        if not line.startswith(name):
            continue
        rest = line[len(name) :]
        if rest and rest[0] not in b":=" + SPACE:
            continue
        rest = rest.lstrip(SPACE)
        if rest[:1] in (b":", b"="):
            rest = rest[1:]
        return rest.split()
    return None


def key(text: bytes, name: bytes, **how: Any) -> int | str:
    tokens = row(text, name)
    if tokens is None:
        return "no such key"
    return number(tokens[0], **how) if tokens else "empty"


def select(text: bytes, selector: str | None, **how: Any) -> int | str:
    """Return the value of a selector in a text, or the reason why there is none."""
    if not text:
        return "empty"
    if selector is None:
        return whole(text, **how)
    name = selector.encode()
    tokens = text.split()
    if selector.isdigit():
        if int(selector) >= len(tokens):
            return "no such token"
        return number(tokens[int(selector)], **how)
    left, _, right = name.rpartition(b".")
    found = row(text, left) if left and right else None
    if found is None:
        return key(text, name, **how)
    tokens = found
    if right.isdigit():
        if int(right) >= len(tokens):
            return "no such token"
        return number(tokens[int(right)], **how)
    for i, token in enumerate(tokens):
        if not token.startswith(right):
            continue
        rest = token[len(right) :]
        if rest[:1] in (b"=", b":") and rest[1:]:
            return number(rest[1:], **how)
        if not rest or rest in (b"=", b":"):
            return number(tokens[i + 1], **how) if i + 1 < len(tokens) else "empty"
    return "no such key"


# ---------------------------------------------------------------- the test


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


def outcome(attrs: AttrSet) -> list[int | str]:
    """Return per field the value or the reason; check what must always hold."""
    bad = attrs.read()
    reasons = {error.index: error.reason for error in attrs.errors()}
    assert bad == len(reasons)
    out: list[int | str] = []
    for i in range(len(attrs)):
        assert bool(attrs.valid[i // 8] >> (i % 8) & 1) == (i not in reasons)
        if i in reasons:
            assert attrs.row[i] == 0
        out.append(reasons.get(i) or attrs[i])
    return out


names = st.sampled_from(
    ["a", "b", "ab", "cpu", "cpu0", "cpu 0", "lo", "a.b", "a.0", "8:0", "k", "x_y-z"]
)
numbers = st.one_of(
    st.integers(-20, 20).map(str),
    st.integers(-(2**64) - 9, 2**64 + 9).map(str),
    st.sampled_from(
        [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**19, 10**20]
    ).map(str),
    st.from_regex(r"[+-]?[0-9]{1,22}\.[0-9]{1,30}", fullmatch=True),
    st.from_regex(r"[+-]?0x[0-9a-fA-F]{1,18}", fullmatch=True),
    st.from_regex(r"0{1,30}[0-9]{1,20}", fullmatch=True),
)
oddities = st.sampled_from(
    "0-1 0,2 1/151 8:0 performance nan inf 1e5 3f 0x - + . .5 5. 1.2.3 1.x [x] [1] [] "
    "[x]] kB GT/s % 100% 10ms 5µs 12abc a=1 b:2 b= b avg10=0.50 0.005 -0 +7 --1 "
    "0x1g 1_000 \u0661".split()
)
tokens = st.one_of(numbers, oddities, names, st.text(max_size=4))
blanks = st.sampled_from([" ", "  ", "\t", " \r", "\x0b", ": ", "=", " : "])
lines = st.builds(
    lambda indent, name, rest: indent + name + "".join(b + t for b, t in rest),
    st.sampled_from(["", "", " ", "\t "]),
    st.one_of(names, tokens),
    st.lists(st.tuples(blanks, tokens), max_size=5),
)
texts = st.one_of(
    st.lists(lines, max_size=8).map(
        lambda rows: "\n".join(rows).encode("utf-8", "ignore")
    ),
    st.builds(
        lambda t, e: (t + e).encode(),
        st.one_of(numbers, oddities),
        st.sampled_from(["", "\n", " kB", " C\n", "\nkB", " 1", " [x]\n"]),
    ),
    st.binary(max_size=60),
)
selectors = st.one_of(
    st.none(),
    st.integers(0, 9).map(str),
    names,
    st.builds("{}.{}".format, names, st.one_of(names, st.integers(0, 4).map(str))),
)
hows: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(
        dict,
        scale=st.sampled_from([1, 2, 3, 10, 100, 1000, 999_999_937, 10**9]),
        unsigned=st.booleans(),
    ),
    st.builds(dict, hex=st.just(True), unsigned=st.booleans()),
)
Wanted = list[tuple[str | None, dict[str, Any]]]
fields = st.lists(st.tuples(selectors, hows), min_size=1, max_size=12)


def build(room: Path, wanted: Wanted) -> AttrSet:
    return AttrSet(
        [
            Field("/f" if s is None else f"/f[{s}]", name=f"{i}", **how)
            for i, (s, how) in enumerate(wanted)
        ],
        root=room,
    )


@settings(deadline=None, max_examples=1500)
@given(text=texts, wanted=fields)
@example(text=b"a: 1\nab: 2\na.b: 3\n", wanted=[("a.b", {"scale": 1})])
@example(text=b"cpu 0 5\n", wanted=[("cpu 0", {"scale": 1}), ("cpu", {"scale": 1})])
@example(text=b"cpu 0 5\n", wanted=[("cpu", {"scale": 1}), ("cpu 0", {"scale": 1})])
@example(text=b"1" * 4200, wanted=[(None, {"scale": 1})])
@example(text=b"0.4999999999999999999999999999999", wanted=[(None, {"scale": 1})])
@example(text=b"0.5", wanted=[(None, {"scale": 1})])
def test_same_as_the_simple_parser(room: Path, text: bytes, wanted: Wanted) -> None:
    (room / "f").write_bytes(text)
    with build(room, wanted) as attrs:
        got = outcome(attrs)
        again = outcome(attrs)
        choice = [f.choices is not None for f in attrs.fields]
    for (selector, how), value, second, chosen in zip(
        wanted, got, again, choice, strict=True
    ):
        expected = select(text, selector, scaled="scale" in how, **how)
        if chosen:
            assert expected == "no choice"
            words = [t[1:-1] if t in bracketed([t]) else t for t in text.split()]
            mark = text.split().index(bracketed(text.split())[0])
            expected = words.index(words[mark])
        assert value == expected, (selector, how)
        assert second == expected, (selector, how)


@settings(deadline=None, max_examples=600)
@given(
    history=st.lists(texts, min_size=2, max_size=5),
    wanted=st.lists(
        st.tuples(
            st.one_of(st.integers(0, 9).map(str), names.filter(lambda n: "." not in n)),
            hows,
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_rows_may_move_come_and_go(
    room: Path, history: list[bytes], wanted: Wanted
) -> None:
    """The order that was learned from one text must not matter for the next."""
    (room / "f").write_bytes(history[0])
    with build(room, wanted) as attrs:
        for text in history:
            (room / "f").write_bytes(text)
            expected = [
                select(text, s, scaled="scale" in how, **how) for s, how in wanted
            ]
            assert outcome(attrs) == expected


@settings(deadline=None, max_examples=400)
@given(
    digits=st.integers(0, 9),
    whole_part=st.integers(0, 10**9),
    part=st.integers(0, 10**9 - 1),
    sign=st.sampled_from(["", "-", "+"]),
)
def test_scale_is_learned_from_the_text(
    room: Path, digits: int, whole_part: int, part: int, sign: str
) -> None:
    fraction = f"{part:09}"[:digits]
    text = f"{sign}{whole_part}" + ("." + fraction if digits else "")
    (room / "f").write_text(text + "\n")
    with AttrSet(["/f"], root=room) as attrs:
        assert attrs.read() == 0
        assert attrs.fields[0].scale == 10**digits
        assert attrs[0] == Fraction(text) * 10**digits


# ------------------------------------------- the same parser under sanitizers

HARNESS = r"""
#include "attr_parse.h"
#include <stdio.h>

static uint64_t state = 88172645463325252ull;

static unsigned int rnd(unsigned int n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned int)(state >> 20) % n;
}

int main(int argc, char **argv)
{
	static const char *const names[] = {"a", "cpu", "cpu0", "ab", "a.b", "x"};
	static const char *const words[] = {
		"a", "cpu", "cpu0: ", "1", "-9223372036854775808",
		"18446744073709551616", "0x", "0xfff",
		"0.123456789123456789", "[x]", "\n", " ", "=", ":",
		"avg=", "kB", ".", "-", "\n\n", "a.b: 5"};
	int turns = atoi(argv[1]);
	struct mlk_attrs *s = mlk_attrs_new(32, 1);
	struct mlk_attr_file *f = &s->file[0];
	struct mlk_attr_want *w = s->want_pool;
	uint32_t i;

	(void)argc;
	f->row = s->row_pool;
	f->token = s->token_pool;
	f->slot = s->slot_pool;
	for (i = 0; i < 32; i++) {
		struct mlk_attr_field *fd = &s->field[i];

		f->slot[f->n_slot++] = i;
		fd->scale = i % 3 ? 1 : 1000;
		fd->flags = (uint8_t)(i % 8);
		if (i < 6) {
			fd->kind = MLK_ATTR_WHOLE;
			if (i > 3) {
				fd->choices = "x\0cpu\0a";
				fd->n_choices = 3;
			}
		} else if (i < 12) {
			fd->kind = MLK_ATTR_TOKEN;
			f->token[f->n_token].token = i - 6;
			f->token[f->n_token++].slot = i;
		}
	}
	for (i = 0; i < 6; i++) {
		struct mlk_attr_row *r = &f->row[f->n_row++];
		uint32_t k;

		r->name = names[i];
		r->len = (uint32_t)strlen(r->name);
		r->want = w;
		r->n_want = 3;
		for (k = 0; k < 3; k++, w++) {
			w->slot = 12 + i * 3 + k;
			s->field[w->slot].kind = k == 2 ? MLK_ATTR_PAIR : MLK_ATTR_LINE;
			w->kind = s->field[w->slot].kind;
			w->token = k == 1 ? i : 0;
			w->sub = k ? "avg" : NULL;
			w->sub_len = k ? 3 : 0;
		}
	}
	mlk_attr_plan(s, f);
	while (turns--) {
		uint32_t n = rnd(200);
		uint32_t len = 0;
		char *big = s->buf;
		char *buf;

		if (rnd(2)) {
			while (len < n)
				big[len++] = (char)rnd(256);
		} else {
			while (len < n) {
				const char *word = words[rnd(20)];

				memcpy(big + len, word, strlen(word));
				len += (uint32_t)strlen(word);
			}
		}
		/* exactly as long as the parser is told: a byte more is a report */
		buf = malloc(len + MLK_ATTR_PAD);
		memcpy(buf, big, len);
		memset(buf + len, 0, MLK_ATTR_PAD);
		s->buf = buf;
		s->len = len;
		if (len) {
			mlk_attr_parse(s, f);
			mlk_attr_absent(s, f);
			for (i = 0; i < 32; i++) {
				const char *unit;
				size_t unit_len;

				if (s->field[i].at != MLK_ATTR_NOT_FOUND)
					mlk_attr_learn(s, &s->field[i], &unit, &unit_len);
				if (s->reason[i] >= MLK_ATTR_N_REASONS)
					return 2;
			}
		}
		for (i = 0; i < 32; i++) {
			char text[64];

			mlk_attr_format(&s->field[i], (int64_t)state, text);
		}
		s->buf = big;
		free(buf);
	}
	mlk_attrs_free(s);
	puts("clean");
	return 0;
}
"""


def test_random_bytes_under_sanitizers(tmp_path: Path) -> None:
    """No byte outside the text and its padding is read; no overflow, no UB."""
    header = Path(__file__).resolve().parents[2] / "pymlk"
    (tmp_path / "h.c").write_text(HARNESS)
    subprocess.run(
        "cc -O1 -g -Wall -Wno-unused-function -fsanitize=address,undefined "
        f"-fno-sanitize-recover=all -I{header} h.c -o h -lpthread",
        shell=True,
        cwd=tmp_path,
        check=True,
    )
    done = subprocess.run(
        [tmp_path / "h", "200000"],
        capture_output=True,
        text=True,
        check=False,
        env={"ASAN_OPTIONS": "detect_leaks=1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "clean\n"
