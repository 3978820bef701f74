"""Messages of other systems as text: what is kept of their markup, and what is refused (R-CASE-21)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.cases.docbook import checked_link, plain, read
from shared.contracts.cases import LinkShown
from shared.messaging.errors import Invalid

ARTICLE = """<?xml version="1.0" encoding="UTF-8"?>
<article xmlns="http://docbook.org/ns/docbook" version="5.0">
  <info><title>Bokad&nbsp;tid</title></info>
  <section>
    <para>Du har en tid <!-- dold --> hos oss &auml;ven i   &quot;år&quot;: 2 &lt; 3 &amp; 4.</para>
    <variablelist>
      <varlistentry><term>Tid</term><listitem><para>12 maj 10:00</para></listitem></varlistentry>
    </variablelist>
    <para>Läs <ulink url="https://www.1177.se/bokning?a=1&amp;b=2" type="_blank">mer om tiden</ulink> i förväg.</para>
  </section>
  <bibliography>Mottagningen</bibliography>
</article>"""


def test_r_case_21_what_it_says_is_kept_and_none_of_the_markup() -> None:
    """R-CASE-21: also with the named characters of HTML, which no XML parser knows by itself."""
    said = read(ARTICLE)
    assert said.text.split("\n\n") == [
        "Bokad\u00a0tid",
        'Du har en tid hos oss även i "år": 2 < 3 & 4.',
        "Tid",
        "12 maj 10:00",
        "Läs mer om tiden i förväg.",
        "Mottagningen",
    ]
    assert said.links == (LinkShown(text="mer om tiden", url="https://www.1177.se/bokning?a=1&b=2"),)


@pytest.mark.parametrize(
    "markup",
    [
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><article>&x;</article>',
        '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><article><para>&b;</para></article>',
        '<?xml-stylesheet href="x"?><article/>',
        "<article><script>alert(1)</script></article>",
        "<article><para onclick='x'>a</para><img/></article>",
        "<article><para>a</article>",
        "<article><para>&finnsinte;</para></article>",
        "<article><para>&#x202e;omvänt</para></article>",
        "<article><para>&#0;</para></article>",
        "<article></article>",
        "</message><message>",
        "<para>" * 40 + "a" + "</para>" * 40,
        "<para>" + "a" * 10_001 + "</para>",
        *(
            f'<para><ulink url="{url}">x</ulink></para>'
            for url in (
                "javascript:alert(1)",
                "http://www.1177.se/",
                "https://",
                "https://a@b.se/",
                "https://a b.se/",
                "data:text/html,x",
                " https://a.se",
                "https://a.se:port/",
                "//a.se",
                "",
            )
        ),
        '<para><ulink url="https://a.se"><para>x</para></ulink></para>',
        "<para>" + '<ulink url="https://a.se">x</ulink>' * 21 + "</para>",
    ],
)
def test_r_case_21_what_is_not_of_the_subset_is_refused(markup: str) -> None:
    """R-CASE-21"""
    with pytest.raises(Invalid) as refused:
        read(markup)
    assert refused.value.reason == "message_not_safe"
    assert "alert" not in str(refused.value)


@given(st.text(alphabet="<>/&;!?[]\"' =abparulinkticle#x0189:-\n", max_size=200))
@example("<para>&amp;lt;script&gt;</para>")
@example("<![CDATA[<b>]]>")
@example("&lt;b&gt;")
def test_r_case_21_any_text_is_read_or_refused(markup: str) -> None:
    """R-CASE-21: never an exception of another kind."""
    try:
        said = read(markup)
    except Invalid:
        return
    assert said.text.strip()


def test_plain_text_stays_as_it_is() -> None:
    assert plain("1 < 2 & <b>så</b>\nhej").text == "1 < 2 & <b>så</b>\nhej"
    with pytest.raises(Invalid):
        plain("a" * 10_001)
    assert checked_link("", "https://a.se/").text == "https://a.se/"
