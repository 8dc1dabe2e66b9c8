import pytest

from mailroom.mime import read, text_of
from mailroom.mime.html import LONGEST


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one</p><p>two&nbsp;<b>bold</b></p>", "one\n\ntwo\xa0bold"),
        ("a<br>b<hr>c", "a\nb\n\nc"),
        ("<style>p{}</style><script>x()</script><!-- c --><title>t</title>seen", "seen"),
        ("<ul><li>one<li>two</ul>", "* one\n* two"),
        ("<pre> a\n   b</pre>", " a\n   b"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ('<a href="http://x.example/">[#1042-k7f3q]</a>', "[#1042-k7f3q]"),
        ('<img src="cid:x" alt="Logo"> text', "Logo text"),
        ("never <b>closed <i>tags", "never closed tags"),
        ("", ""),
    ],
)
def test_html_reads_as_a_person_sees_it(html: str, text: str) -> None:
    assert [line.strip() for line in text_of(html).split("\n")] == [
        line.strip() for line in text.split("\n")
    ]


def test_what_was_left_out_of_html_is_told() -> None:
    mail = read(b"Content-Type: text/html\r\n\r\n" + b"x" * (LONGEST + 5))
    assert mail.defects == (f"text made of the first {LONGEST} characters of HTML",)


def test_only_so_much_of_html_is_read() -> None:
    assert len(text_of("x" * (LONGEST + 5))) == LONGEST
