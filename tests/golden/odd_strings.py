"""Two hundred strings that tokenizers may take apart differently."""

import random

_PIECES = (
    *("a", "photo", "of", "the", "chair", "one", "table", "front", "view", "Overhead", "PHOTO"),
    *("it's", "we'll", "I'd", "they've", "don't", "'s", "''", "3D", "4.5k", "1,000", "x2", "DSLR"),
    *("café", "cafe\u0301", "naïve", "Ünïcödé", "ß", "ﬁne", "½", "①", "Ǆ", "İstanbul"),
    *("北京", "の", "한국", "привет", "שלום", "ไทย", "नमस्ते", "🐻", "👩‍🚀", "🇺🇸"),
    *(
        "...",
        "—",
        "–",
        "“quoted”",
        "(round)",
        "[x]",
        "{y}",
        "a/b",
        "c\\d",
        "e_f",
        "g-h",
        "#1",
        "@",
        "&amp;",
    ),
    *("&amp;", "<b>", "<", ">", "|", "~", "^", "`", "$5", "€", "100%", "!!!", "?!", ";", ":", ","),
    *("\t", "\n", "\r\n", "  ", "   ", "\u00a0", "\u3000", "\u200b", "\ufeff"),
    *("supercalifragilisticexpialidocious", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "zzzz", "0" * 20),
)


def odd_strings(count: int = 200) -> list[str]:
    """The empty string, single pieces, then random joins of them; always the same."""
    draw = random.Random(0)
    strings = ["", " ", *_PIECES]
    while len(strings) < count:
        joints = draw.choices((" ", " ", "", "  ", ", "), k=6)
        pieces = draw.choices(_PIECES, k=draw.randint(2, 6))
        strings.append("".join(p + j for p, j in zip(pieces, joints, strict=False)))
    return strings[:count]
