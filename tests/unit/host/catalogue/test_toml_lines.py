"""The lines of keys, for any document that tomllib accepts."""

from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from sgxkit.host.catalogue.toml_lines import key_lines

DOCUMENT = '''# a comment with [[entry]] and key = 1
format = 1
text = """
[[entry]]
id = "not a key"
"""  # end
lists = [
  "a = 1",
  '[b]', # c = 2
  { d = 3 },
]

[[entry]]
id = 'x"='
more = "a \\" quote = #"

  [entry.zh]
  title = "t"

[[entry]]
  id = "y"
"quoted" = 1
'''


def test_keys_have_their_lines() -> None:
    tomllib.loads(DOCUMENT)
    lines = key_lines(DOCUMENT)
    assert {path: line for path, line in lines.items() if line} == {
        (): 1,
        ("format",): 2,
        ("text",): 3,
        ("lists",): 7,
        ("entry", 0): 13,
        ("entry", 0, "id"): 14,
        ("entry", 0, "more"): 15,
        ("entry", 0, "zh"): 17,
        ("entry", 0, "zh", "title"): 18,
        ("entry", 1): 20,
        ("entry", 1, "id"): 21,
        ("entry", 1, "quoted"): 22,
    }


@given(st.lists(st.text(max_size=30), max_size=6), st.sampled_from(["basic", "literal", "multi"]))
@settings(max_examples=80, deadline=None)
def test_no_text_of_a_value_moves_the_lines(values: list[str], style: str) -> None:
    text, expected = "", {}
    for number, value in enumerate(values):
        plain = "".join(character for character in value if character.isprintable())
        escaped = plain.replace("\\", "\\\\").replace('"', '\\"')
        form = {
            "basic": f'"{escaped}"',
            "literal": "'" + plain.replace("'", "") + "'",
            "multi": f'"""\n{escaped}\n[[entry]]\n"""',
        }[style]
        expected[(f"k{number}",)] = text.count("\n") + 1
        text += f"k{number} = {form} # k = 1\n"
    tomllib.loads(text)
    assert {path: line for path, line in key_lines(text).items() if path} == expected


@given(st.text(alphabet="[]{}\"'=#\n abc.\\", max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_ends(text: str) -> None:
    key_lines(text)
