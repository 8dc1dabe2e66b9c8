"""Why a mail was not delivered: is the address itself finally bad, or was one mail refused?

`hard` are an unknown user or host, an address that moved, a host that takes no mail at all.
Invariant: a row names the standard or the software that writes its wordings, and the first row
that fits decides: so "mailbox full" counts before the "550 5.1.1" which some hosts send with it,
and any wording before the bare status code, which hosts choose carelessly.
"""

import re
from typing import Final

_HARD_REASONS: Final = frozenset({"user unknown", "host unknown", "takes no mail", "moved"})

# Each row: reason, source, wordings.
_ROWS: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("user unknown", "Exchange Online 5.4.1 (directory-based edge blocking)", (
        r"5\.4\.1 .{0,80}recipient address rejected: access denied",)),
    ("takes no mail", "Postfix before 3.0 on a null MX, RFC 7505", (
        r"malformed or unexpected name server reply",)),
    ("host unknown", "Outlook.com", (
        r"domain is not reachable\. please check the domain",)),
    ("user unknown", "Symantec MessageLabs", (
        r"\b542 \S+ rejected",)),
    ("network", "Postfix: an answer that may change", (
        r"host not found, try again|unverified address|address verification in progress",)),
    ("preference", "Facebook RCP-P2", (
        r"recipient preferences",)),
    ("preference", "KDDI au, NTT docomo: what they say to a sender whom the user filters", (
        r"\b550 : user unknown|\b550[ -]'?unknown user \S+@",)),
    ("full", "RFC 3463 x.2.2; qmail, Courier, Dovecot, Exim, IMail, Exchange, Yahoo, 1&1", (
        r"mailbox (?:is |size limit )?(?:full|exceed)",
        r"mail ?box.{0,40}\bis full",
        r"over ?quota|over (?:the )?(?:disk |allowed |storage )?quota",
        r"quota (?:has been )?(?:exceed|violat|full)",
        r"exceed(?:s|ed|ing)?.{0,40}(?:quota|mailbox|storage|allowed size|space limit)",
        r"(?:quota|storage|space).{0,40}(?:exceed|exhausted|full)",
        r"out of (?:storage )?space",
        r"(?:not enough|insufficient|no) (?:system |disk |storage |mailbox )*(?:storage|space)",
        r"(?:account|inbox|user|recipient).{0,30}(?:is )?(?:full|over ?quota)",
        r"too much mail data|mail(?:box|dir) delivery failed",
        r"メールボックスが(?:一杯|いっぱい)|postfach.{0,20}voll|boîte.{0,30}pleine")),
    ("too big", "RFC 3463 x.3.4; Postfix, Sendmail, qmail, 1&1", (
        r"(?:message|mail|body|data|file|attachment)s? (?:size )?(?:is |are )?too (?:big|large)",
        r"(?:message|mail|body) (?:size|length) (?:limit )?exceed|message exceeds",
        r"size limit|maximum (?:allowed |incoming )?(?:message )?size")),
    ("sender refused", "RFC 7372, RFC 7489 (SPF, DKIM, DMARC); Gmail, Yahoo", (
        r"\b(?:spf|dkim|dmarc|arc)\b.{0,80}(?:fail|check|not|pass|align|polic|record|reject|error)",
        r"(?:fail|not pass).{0,40}\b(?:spf|dkim|dmarc)\b",
        r"unauthenticated (?:e-?mail|mail|messages?)")),
    ("sender refused", "RFC 3463 x.7.25: no reverse name; Postfix, Gmail, 1&1", (
        r"\bptr\b|reverse dns|rdns|reverse[- ]lookup|reverse hostname|pointer record|fcrdns",
        r"client host rejected: cannot find your")),
    ("sender refused", "RFC 3463 x.1.7, x.1.8; Postfix, Exim, Sendmail, Exchange, Google Groups", (
        (r"sender (?:address |domain |verify )?(?:was |is )?"
         r"(?:rejected|denied|refused|fail|not allowed|unknown|invalid)"),
        r"(?:invalid|unknown|unverified|unresolvable|bad) (?:envelope )?sender",
        r"sender.{0,40}does not exist|verify sender|callout verification",
        r"sender domain|domain of sender",
        r"\b(?:mail from|from address)\b.{0,60}(?:not|reject|denied|invalid|owned)",
        r"not (?:permitted|allowed|authorized) to (?:send|post|use)|send ?as ?denied",
        r"permission to post")),
    ("relaying", "RFC 3463 x.7.1; Postfix, Sendmail, Exchange", (
        r"relay(?:ing)? (?:access )?(?:is )?(?:denied|not permitted|not allowed|prohibited)",
        r"(?:relay|relaying)\b.{0,30}(?:denied|prohibit|not)|unable to relay|insecure mail relay",
        r"no relaying|not a gateway|not a registered gateway")),
    ("sender blocked", "DNS block lists, RFC 5782", (
        r"\b(?:black|block|deny|rbl|dns)[- ]?list|\brbl\b|dnsbl|spamhaus|spamcop|barracuda",
        r"sorbs|senderscore|spamrl|uceprotect|cloudmark|invaluement")),
    ("sender blocked", "Outlook.com, Gmail, Yahoo, 1&1, Cisco, Postfix", (
        (r"(?:ip|host|client|server|network)\b.{0,60}\b"
         r"(?:blocked|banned|refused|blacklisted|not (?:allowed|authorized|permitted) to connect)"),
        r"access denied.{0,20}(?:ip|banned)|banned sending ip|reputation",
        r"dynamic ip|residential ip|generic (?:rdns|hostname)|dialup|mail from (?:dynamic|your)",
        r"connection (?:from your|not) (?:authorized|allowed|accepted)",
        r"(?:helo|ehlo).{0,40}(?:reject|invalid|denied|need)")),
    ("rate", "RFC 6647 (greylisting), RFC 3463 x.7.28; Gmail, Exim, Postfix", (
        r"too many|rate limit|throttl|unusual rate|gr[ae]y-?list|try again later",
        r"(?:exceeded|over).{0,40}\b(?:rate|limit|hourly|daily)",
        r"connection limit|max(?:imum)? (?:number of )?(?:connections|recipients)",
        r"sending (?:limit|quota)")),
    ("content", "SpamAssassin, rspamd, Gmail, Exim, Barracuda", (
        r"\bspam|junk ?mail|unsolicited|bulk mail|high probability",
        r"considered (?:to be )?unwanted",
        r"(?:message|mail) (?:was )?(?:identified|classified|detected) as")),
    ("content", "ClamAV, amavisd-new", (
        r"virus|malware|trojan|phish|infected|worm found|clamav",)),
    ("content", "RFC 5322 checks of Gmail, Yahoo, amavisd-new, Exim", (
        r"5322|2822|bare (?:lf|cr)|missing (?:from|header|date|message-id)",
        r"invalid (?:header|message|character)|malformed (?:header|address|message|mail)",
        r"multiple (?:from|to)|duplicate (?:header|from)|header.{0,20}(?:error|invalid)",
        r"not? ?-?compliant|rfc.{0,8}compliant|8 ?bit|illegal (?:header|character|end)")),
    ("policy", "RFC 3463 x.7.1; Exim, Exchange, Yahoo", (
        r"polic(?:y|ies)|administrative(?:ly)? (?:prohibition|denied)|prohibited",
        r"content (?:reject|filter|not|restriction)|banned (?:content|attachment)",
        r"attachment.{0,30}(?:not|type|block|reject|filter)|blocked (?:by|for|attachment)",
        r"message (?:content )?(?:was )?(?:rejected|refused|blocked|filtered)",
        r"(?:rejected|refused|denied) by (?:content|filter|recipient|rule)",
        r"access denied")),
    ("suspended", "RFC 3463 x.2.1; Yahoo, Orange, Outlook.com", (
        (r"(?:account|mailbox|user|recipient).{0,40}(?:is |been |was |temporarily |currently )+"
         r"(?:suspended|disabled|locked|inactive|deactivated|not active|restricted|on hold)"),
        r"(?:suspended|disabled|inactive|deactivated|dormant) (?:account|mailbox|user|recipient)",
        r"mailbox currently suspended|domain (?:is )?(?:inactive|suspended)",
        r"destinataire (?:archivee|bloquee)")),
    ("authentication", "RFC 4954 530; Exchange RESOLVER.RST.AuthRequired", (
        r"authentication (?:required|failed|needed)|not authenticated|auth.{0,20}required",
        r"must (?:be )?(?:authenticated|issue a starttls|log ?in)|starttls",
        r"(?:encryption|tls) (?:is )?(?:required|needed)")),
    ("host unknown", "RFC 3463 x.1.2; Postfix, Exim, Sendmail, qmail, DMA, Gmail", (
        r"host (?:or domain name )?(?:\S+ )?(?:not found|unknown|does not exist)|unknown host",
        r"(?:domain|host)(?: name)?(?: \S+)? (?:could not|cannot|can't|couldn't) be found",
        r"domain name not found|non-existent hosts|no such (?:host|domain|dns)|nxdomain",
        r"(?:unrouteable|unroutable|unknown) (?:mail )?domain|name or service not known",
        r"domain (?:\S+ )?(?:does not|doesn't) exist|domain must exist|host is unknown",
        r"(?:bad|invalid|illegal) (?:host|domain|destination system)",
        r"no mail ?hosts? for domain|no (?:valid )?mx (?:record|host)",
        r"recipient domain.{0,30}not (?:exist|found)|couldn't find any host named",
        r"name server: .{0,100}: host not found|^\S+ 553 [\w.-]+\.[a-z]+ does not exist",
        r"data: (?:host \S+ \[\S+\]: )?553 [\w.-]+\.[a-z]+ does not exist")),
    ("takes no mail", "RFC 7504 521, RFC 7505 5.1.10; Gmail, Exim", (
        r"null ?mx|indicated no smtp service",
        r"domain.{0,60}(?:doesn't|does not) (?:receive|accept) .{0,9}mail",
        r"(?:host|server|system|smtp) .{0,60}does not (?:accept|receive) (?:any )?(?:e-?)?mail",
        r"(?:does|do) not accept (?:any )?(?:e-?)?mail\b|doesn't accept (?:any )?mail",
        r"not accepting (?:any )?(?:e-?)?mail\b|no longer accepts? mail")),
    ("loop", "RFC 3463 x.4.6; Postfix, Sendmail, Exim", (
        r"mail(?:er)?[ -]loop|loops? (?:back|detected)|routing loop|mail for .{0,80} loops back",
        r"too many hops|hop count exceeded|message.{0,20}looping")),
    ("network", "RFC 3463 x.4.1, x.4.2, x.4.3; Postfix, Exim, Sendmail, Gmail", (
        (r"(?:connection|connect|session|operation|conversation).{0,60}"
         r"(?:timed? ?out|refused|reset|lost|dropped|closed|failed)"),
        r"timed? out|timeout|no route to host|unreachable|no answer from host|bad connection",
        r"unable to (?:connect|contact|establish)",
        r"could(?: not|n't) (?:connect|establish|be reached|contact)",
        r"not accept (?:our )?requests to connect|tls (?:negotiation|handshake)|retry time",
        r"lookup (?:fail|tim)|(?:name server|dns) (?:lookup )?(?:error|failure)",
        r"temporar(?:y|ily) (?:lookup|dns|failure|unavailable|deferred|rejected)",
        r"all hosts.{0,60}fail|remote protocol error")),
    ("expired", "RFC 3463 x.4.7; Sendmail, qmail, Postfix", (
        r"(?:delivery|message|queue|retry).{0,40}(?:expired|too long|exceeded)",
        r"could not be delivered for|cannot send (?:message )?(?:for|within)",
        r"not been (?:collected|delivered)|(?:for|after) \d+(?:\.\d+)? (?:day|hour|minute)",
        r"delivery (?:time|attempts?) (?:expired|exceeded)")),
    ("host's own", "RFC 5321 421, 451; Sendmail, Postfix, Exim", (
        r"service (?:currently |temporarily )?(?:unavailable|not available)",
        r"server (?:is )?(?:busy|overload|unavailable)|internal (?:server )?error",
        r"system (?:error|failure|is busy|resources)|local (?:error|configuration)",
        r"can't create (?:user )?output|configuration error|i/o error|disk (?:full|error)",
        r"out of memory|resources temporarily|temporary (?:error|problem)|cannot open",
        r"requested action aborted|unexpected (?:error|failure)|permission denied|read-only")),
    ("mailer", "Postfix pipe(8), Exim pipe transport, Sendmail, procmail", (
        r"command (?:died|failed|output|time limit)|pipe to|child process|program failure",
        r"mailer.{0,40}(?:fail|exit|error|died)|exit(?:ed| status)\D{0,20}\d+",
        r"unknown mailer error|procmail|\.forward")),
    ("moved", "RFC 5321 551, RFC 3463 x.1.6; Sendmail, Outlook.com", (
        r"(?:has|have|user|recipient|address|account|mailbox).{0,30}(?:moved|been replaced)",
        r"(?:address|mailbox).{0,30}(?:has|have) (?:been )?changed|user not local; please try",
        r"no longer (?:at|with|works?|employed)|new address")),
    ("user unknown", "RFC 3463 x.1.1; Postfix, Sendmail, Exim, qmail, Courier, Notes", (
        (r"user (?:is )?(?:unknown|not found|not known|unkown|doesn'?t exist|does not exist"
         r"|not exist|not local|not available here|not listed|not on this)"),
        (r"(?:unknown|no such|non-?existent|invalid|bad|not a valid|not a known) (?:or illegal )?"
         r"(?:local )?(?:user|recipient|mailbox|address|account|e-?mail|local[ -]?part|person|rcpt"
         r"|destination mailbox|addressee)"))),
    ("user unknown", "Gmail, Exchange, Yahoo, Domino, iCloud", (
        (r"(?:recipient|address|mailbox|account|user|e-?mail|inbox|person|name|destination|customer"
         r"|alias)(?: \S+| address| name| account| \(.{1,80}\)| <.{1,80}>){0,4} "
         r"(?:is |was |does |did |could |can |has |do )*(?:not |n't )?(?:unknown|not (?:been )?"
         r"(?:found|known|exist|recogni[sz]ed|valid|listed|registered|a (?:valid|known|registered))"
         r"|doesn'?t exist|no(?:t)? longer (?:exist|valid|available|active|in use|on server)"
         r"|couldn'?t be found|cannot be found|can'?t be found|invalid|undeliverable|unavailable"
         r"|nonexistent|does not exist|not exist)"),
        r"recip(?:ient|addr)? ?not ?found|recipaddrnotfound|not listed in|nosuchuser",
        r"name (?:is )?not (?:recogni[sz]ed|found in)",
        r"not found in (?:the )?(?:directory|domino|recipient)")),
    ("user unknown", "qmail, Yahoo, Verizon, Lotus, hMailServer, Exim", (
        (r"(?:does not|doesn'?t|do not|don'?t|didn'?t|did not) (?:exist|have an? .{1,60} account"
         r"|like recipient)"),
        r"no (?:such|longer).{0,40}(?:here|user|mailbox|address|account|recipient|alias)",
        r"no (?:mailbox|account) (?:here|by that name|found|currently)",
        r"there is no (?:one|user|such|mailbox)",
        (r"not (?:a |our )(?:valid |known |registered )?"
         r"(?:customer|user|recipient|mailbox|account|address)"),
        r"unable to (?:find|verify) (?:the )?(?:recipient|user|mailbox|address)",
        r"(?:unroutable|unrouteable|undeliverable) address",
        r"this (?:user|address|account) (?:doesn|does|no longer|is not)")),
    ("user unknown", "RFC 5321 550, RFC 3463 x.1.1; Outlook.com, Postfix", (
        r"invalid (?:local )?(?:recipient|address|mailbox|user)|bad (?:address|destination)",
        r"address (?:rejected|unknown|invalid)",
        r"mailbox (?:unavailable|not available|does|is not|has been (?:deleted|removed)|deleted)",
        (r"(?:account|mailbox|user).{0,30}"
         r"(?:deleted|closed|terminated|cancell?ed|removed|expired|discontinued|no longer)"))),
    ("user unknown", "1&1, Orange, Telefónica, Libero, Mail.ru, EZweb, QQ in their languages", (
        r"unbekannter? (?:empfänger|benutzer|nutzer)",
        (r"(?:empfänger|adresse|postfach|konto|benutzer).{0,40}"
         r"(?:unbekannt|existiert nicht|nicht (?:gefunden|vorhanden|bekannt))"),
        r"destinataire.{0,40}(?:inconnu|invalide|n'existe)|(?:utilisateur|adresse) inconnue?",
        r"(?:usuario|destinatario|buzón|cuenta).{0,40}(?:desconocido|no existe|inexistente)",
        r"utente.{0,20}(?:sconosciuto|inesistente)|нет такого|не существует",
        r"(?:ユーザー?|メールアドレス|宛先).{0,20}(?:存在|見つか)|用户不存在|收件人不存在")),
)  # fmt: skip

# By enhanced status code where no wording decides (RFC 3463; x.1.10 is RFC 7505).
_HARD_STATUS: Final = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.4.4", "4.1.1"})

_TABLE: Final = tuple(
    (reason, re.compile("|".join(wordings), re.IGNORECASE)) for reason, _, wordings in _ROWS
)
_LONGEST: Final = 4_000
_ANCHOR = re.compile(r"(https?://[^\s#]*)#\S*")
# What answers MAIL FROM is not about the recipient.
_SENDER_STAGE = re.compile(
    r"(?:after|in reply to|>>>) (?:the )?(?:MAIL FROM|EHLO|HELO)\b", re.IGNORECASE
)


def reason_of(said: str) -> str | None:
    """The reason in the words of the refusing host, or None where they tell none."""
    line = _ANCHOR.sub(r"\1", " ".join(said[:_LONGEST].split()))
    return next((reason for reason, wording in _TABLE if wording.search(line)), None)


def is_hard(status: str, said: str, transcript: str = "") -> bool:
    """Whether the address itself is finally bad.

    By `said`, what the host said of this recipient, else by `transcript`, the words around it,
    else by the enhanced `status` code. `transcript` also tells which command was answered.
    """
    if status.startswith(("2.", "4.")) and status not in _HARD_STATUS:
        return False
    session = f"{said} {transcript}"[: 2 * _LONGEST]
    if _SENDER_STAGE.search(session):
        return False
    reason = reason_of(said) or reason_of(transcript)
    if reason is None:
        return status in _HARD_STATUS
    return reason in _HARD_REASONS
