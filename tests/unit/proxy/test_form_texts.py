"""The texts of an upload: all of them, or none is passed on."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.proxy.form_texts import FORM_PARTS_MAX, OddForm, texts_of_form, with_texts

PDF = b"%PDF-1.7\n\xff\x00"
TYPE = b"multipart/form-data; boundary=B"


def form(*contents: bytes, head: bytes = b'Content-Disposition: form-data; name="file"') -> bytes:
    parts = b"".join(b"--B\r\n" + head + b"\r\n\r\n" + each + b"\r\n" for each in contents)
    return parts + b"--B--\r\n"


def read(body: bytes, *headers: tuple[bytes, bytes]) -> list[str]:
    return [each.text for each in texts_of_form(headers or [(b"content-type", TYPE)], body)]


def is_text(content: bytes) -> bool:
    return b"\0" not in content and content.decode("utf-8", "ignore").encode() == content


@given(st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=20)), min_size=1, max_size=4))
def test_all_texts_that_a_client_sends_are_seen_and_replaced(
    files: list[tuple[str, bytes]],
) -> None:
    # Given files as a usual client sends them, when their texts are read, then each content is
    # among them or the form is refused; other texts in their places leave the rest as it was.
    fields = [("file", (f"n{name}", content, "text/plain")) for name, content in files]
    request = httpx.Request("POST", "http://x", files=fields)
    headers = [(b"content-type", request.headers["content-type"].encode())]
    body = request.read()
    contents = [content for _, content in files]
    try:
        texts = texts_of_form(headers, body)
    except OddForm:
        assert not all(map(is_text, contents))
        return
    assert [each.text.encode() for each in texts[1::2]] == contents
    assert with_texts(body, texts, [each.text for each in texts]) is body
    changed = with_texts(body, texts, [f"{each.text}+" for each in texts])
    assert len(changed) == len(body) + len(texts)
    assert [each.text for each in texts_of_form(headers, changed)] == [
        f"{each.text}+" for each in texts
    ]


def test_pdf_and_images_pass_and_names_are_texts() -> None:
    # Given parts that are looked at nowhere, then their headers are, and a text beside them, too.
    head = 'Content-Disposition: form-data; name="file"; filename="é"\r\nContent-Type: a/b'
    body = form(PDF, "ü".encode(), head=head.encode())
    assert read(body) == [head, head, "ü"]
    assert read(body, (b"content-type", b'Multipart/Form-Data;boundary="B"')) == [head, head, "ü"]
    assert read(body.removesuffix(b"\r\n")) == [head, head, "ü"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", ()),
        (b"--B--\r\n", ()),
        (b"--B\r\n--B--", ()),
        (form(b"a") + b"more", ()),
        (b"preamble\r\n" + form(b"a"), ()),
        (form(b"a\n--B\nhidden"), ()),
        (form(b"a").replace(b"--B\r\n", b"--B\n\t", 1), ()),
        (form(b"a\r\n--Bx"), ()),
        (form(PDF + b"\n--B\n\n Falcon"), ()),
        (form(b"PK\x03\x04\xff"), ()),
        ("Falcon".encode("utf-16-le").join((form(b"")[:-10], form(b"")[-10:])), ()),
        (form(b"a", head=b"Content-Transfer-Encoding: base64"), ()),
        (form(b"a", head=b"Content-Disposition: a\nX: y"), ()),
        (form(*[b"a"] * (FORM_PARTS_MAX + 1)), ()),
        (form(b"a"), ((b"content-type", b"text/plain"),)),
        (form(b"a"), ((b"content-type", TYPE), (b"content-type", TYPE))),
        (form(b"a"), ((b"content-type", TYPE + b"; boundary=C"),)),
        (form(b"a"), ((b"content-type", TYPE), (b"content-encoding", b"gzip"))),
    ],
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(
    body: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    # Given a form that programs may read differently, or a part that is neither a text nor a known
    # kind, then it is refused with a reason.
    with pytest.raises(OddForm) as odd:
        read(body, *headers)
    assert odd.value.reason
