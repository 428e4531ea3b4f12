"""Pages are made from values, and no value becomes markup."""

import base64
import hashlib
import re

from control.house_page import POLICY, STYLE
from control.markup import Markup, page, page_policy, tag, void_tag


def test_text_and_attributes_are_escaped() -> None:
    element = tag("p", "<script>alert(1)</script>", title='"><script>')

    assert element == '<p title="&quot;&gt;&lt;script&gt;">&lt;script&gt;alert(1)&lt;/script&gt;</p>'


def test_markup_inside_markup_is_kept() -> None:
    assert tag("p", "a & ", tag("b", "<c>"), [tag("i", "d"), "<"]) == "<p>a &amp; <b>&lt;c&gt;</b><i>d</i>&lt;</p>"


def test_an_attribute_may_bear_a_keyword_name() -> None:
    assert void_tag("meta", name="viewport", content="x") == '<meta name="viewport" content="x">'
    assert tag("p", class_="figure") == '<p class="figure"></p>'


def test_a_page_allows_its_own_style_sheet_and_nothing_else() -> None:
    document = page("Title <", tag("p", "x"), style=STYLE)
    written = re.search(r"<style>(.*)</style>", document, re.DOTALL)
    assert written is not None
    digest = base64.b64encode(hashlib.sha256(written[1].encode()).digest()).decode()

    assert page_policy(STYLE) == POLICY
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert "default-src 'none'" in POLICY
    assert "<title>Title &lt;</title>" in document
    assert isinstance(document, Markup)
    assert "<script" not in document
