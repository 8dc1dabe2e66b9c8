import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.directory import TlsMode
from mailroom_directory.fields import FieldRefused
from mailroom_directory.server_urls import Login, Protocol, login, url_of

ADDRESS = "service@example.com"


@pytest.mark.parametrize(
    ("protocol", "url", "read"),
    [
        ("imap", "imaps://anna@mail.example.com", ("mail.example.com", 993, "implicit", "anna")),
        ("imap", "imap://anna@mail.example.com", ("mail.example.com", 143, "starttls", "anna")),
        ("imap", "imap+plain://anna@localhost:1143", ("localhost", 1143, "none", "anna")),
        ("smtp", "smtps://anna@mail.example.com", ("mail.example.com", 465, "implicit", "anna")),
        ("smtp", "smtp://anna@MAIL.example.com/", ("mail.example.com", 587, "starttls", "anna")),
        ("smtp", "smtp+plain://anna@127.0.0.1:25", ("127.0.0.1", 25, "none", "anna")),
        (
            "imap",
            "imaps://a@x.de@mail.example.com:7",
            ("mail.example.com", 7, "implicit", "a@x.de"),
        ),
        ("imap", "imaps://a%3Ab%20c@mail.x.de", ("mail.x.de", 993, "implicit", "a:b c")),
        ("imap", "imaps://anna@[::1]:993", ("::1", 993, "implicit", "anna")),
        ("imap", "imaps://mail.example.com", ("mail.example.com", 993, "implicit", ADDRESS)),
    ],
)
def test_a_url_says_where_and_as_whom_to_log_in(
    protocol: Protocol, url: str, read: tuple[str, int, str, str]
) -> None:
    found = login(protocol, url, ADDRESS)
    assert (found.host, found.port, found.tls, found.user) == read


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("pop3://anna@mail.example.com", "begin with imaps://, imap://, imap\\+plain://"),
        ("mail.example.com:993", "begin with"),
        ("smtps://anna@mail.example.com", "begin with"),
        ("imaps://", "names no host"),
        ("imaps://anna@", "names no host"),
        ("imaps://anna@-", "names no host"),
        ("imaps://anna@mail..example.com", "names no host"),
        ("imaps://anna@bücher.de", "xn--"),
        ("imaps://anna@mail.example.com:0", "1 to 65535"),
        ("imaps://anna@mail.example.com:65536", "1 to 65535"),
        ("imaps://anna@mail.example.com:imap", "1 to 65535"),
        ("imaps://anna@mail.example.com/INBOX", "leave out what stands behind the port"),
        ("imaps://anna@mail.example.com?tls=no", "leave out what stands behind the port"),
        ("imaps://anna@mail\r\n.example.com", "control character"),
        ("imaps://anna@[::1", "is no URL"),
        ("imaps://anna%0D%0AA1 LOGOUT@mail.example.com", "control character"),
        ("imaps://anna%0D%0AA1%20LOGOUT@mail.example.com", "printable"),
    ],
)
def test_a_url_that_names_no_server_is_refused_with_the_remedy(url: str, remedy: str) -> None:
    with pytest.raises(FieldRefused, match=remedy):
        login("imap", url, ADDRESS)


@pytest.mark.parametrize(
    "host", ["mail.example.com", "10.0.0.1", "localhost.example.com", "192.168.0.1", "[::2]"]
)
def test_plain_text_leaves_this_machine_for_nobody(host: str) -> None:
    assert login("imap", f"imaps://anna@{host}", ADDRESS)
    with pytest.raises(FieldRefused, match="plain text only to localhost"):
        login("imap", f"imap+plain://anna@{host}", ADDRESS)


@pytest.mark.parametrize(
    "url",
    [
        "imaps://anna:hunter2@mail.example.com",
        "imaps://anna@example.com:hunter2@mail.example.com:993",
        "imaps://anna:a/hunter2@mail.example.com",
        "imaps://anna:a#hunter2@mail.example.com",
        "imaps://anna:a:hunter2@b@mail.example.com",
        "imaps://anna:hunter2[@mail.example.com",
        "pop3://anna:hunter2@mail.example.com",
        "anna:hunter2@mail.example.com",
        "hunter2",
        "imaps://anna:hunter 2@mail.example.com",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(FieldRefused) as refused:
        login("imap", url, ADDRESS)
    assert "hunter" not in str(refused.value)


@given(
    st.sampled_from(["localhost", "mail.example.com", "127.0.0.1", "::1"]),
    st.integers(1, 65535),
    st.sampled_from(["implicit", "starttls"]),
    st.text(min_size=1, max_size=200).filter(str.isprintable),
)
def test_a_login_reads_back_from_its_own_url(host: str, port: int, tls: TlsMode, user: str) -> None:
    server = Login("smtp", host, port, tls, user)
    assert login("smtp", url_of(server), ADDRESS) == server


@given(st.text())
def test_whatever_is_given_as_a_url_is_read_or_refused(url: str) -> None:
    try:
        login("imap", "imap" + url, ADDRESS)
    except FieldRefused:
        return
