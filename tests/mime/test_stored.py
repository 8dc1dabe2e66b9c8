import json

from mailroom.mime import from_json, read, to_json

RAW = b"""From: =?utf-8?q?J=C3=B6?= <a@b>
To: c@d
Date: Fri, 2 Jan 2026 03:04:05 +0100
X-Spam-Flag: NO
Content-Type: multipart/report; boundary=b

--b

[#1]
--b
Content-Type: message/delivery-status

Final-Recipient: rfc822;x@y
Action: failed
Status: 5.1.1

--b--
"""


def test_a_mail_survives_json_as_it_is() -> None:
    mail = read(RAW)
    assert mail.report is not None
    assert from_json(to_json(mail)) == mail


def test_members_of_a_later_version_are_ignored() -> None:
    mail = read(RAW)
    later = json.loads(to_json(mail)) | {"later": 1}
    assert from_json(json.dumps(later).encode()) == mail
