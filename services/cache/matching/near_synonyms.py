"""Words that may stand in each other's place in a question that is otherwise the same, and where they may. English.

Promises: data only, lower case, bounded; no group is part of another. A word may be in several groups, and only words
that share one stand for each other: "turn" for "enable" and for "disable", but not these. Read by the guards alone: the
pair model was fitted without them.

Of each group it was asked whether there is a customer's question that has another answer with the one word than with
the other: then they are no group ("coupon" and "voucher", "mail" and "email", "terminate" and "end"), or have a frame
in which there is none ("hard disk" and "hard drive"). So words of many meanings ("charge", "term", "file") are mostly
left out. What is a group is close, not equal: the pair model still decides.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from services.cache.matching.lexicon import word_set

__all__ = ["FRAMES", "NEAR_SYNONYMS", "NOUNS_OF_VERBS", "WordFrame"]

_DOING: Final = """
    acquire/buy acquire/purchase author/write begin/commence start/commence close/shut cover/include
    expire/end expire/lapse examine/inspect forbid/prohibit prohibited/banned cultivate/grow
    inform/notify manufacture/produce manufacture/make devise/invent defeat/beat die/perish
    discard/dispose enable/turn disable/turn enhance/improve lessen/reduce diminish/reduce mute/silence
    occur/happen arrive/come postpone/defer provide/offer supply/provide quit/exit recommend/suggest
    register/enrol/enroll require/need necessary/required/needed reserve/book reside/live dwell/live run/execute
    speak/talk submit/lodge view/see wait/await calculate/compute established/founded
    organise/organize recognise/recognize
"""

_MEASURES: Final = """
    height/high height/tall length/long width/wide depth/deep weight/heavy age/old distance/far thickness/thick
    size/big size/large temperature/hot duration/long strength/strong density/dense speed/fast
"""

_THINGS: Final = """
    quantity/amount population/people population/inhabitant
    advantage/benefit/upside disadvantage/drawback/downside baggage/luggage basement/cellar boy/lad girl/lass
    cause/reason clothes/clothing colleague/coworker courgette/zucchini aubergine/eggplant curtain/drape dad/father
    mum/mother mom/mother deadline/due difference/differ difference/different disease/illness disk/drive effect/impact
    exam/examination expiry/expiration folder/directory forest/woods fridge/refrigerator grandma/grandmother
    grandpa/grandfather hoover/vacuum inquiry/enquiry lift/elevator lorry/truck macos/mac method/technique
    motorbike/motorcycle mold/mould papers/documents parcel/package petrol/gasoline photo/photograph pregnant/pregnancy
    programme/program rule/regulation seller/vendor sofa/settee staff/employee/personnel subway/metro sweater/pullover
    tap/faucet timetable/schedule trip/journey trip/travel vaccine/vaccination
    person/people woman/women man/men child/children tooth/teeth mouse/mice leaf/leaves knife/knives
"""

_QUALITIES: Final = """
    afraid/scared appropriate/suitable bigger/larger/greater smaller/littler faulty/defective
    cheap/affordable crucial/vital dangerous/hazardous delicious/tasty famous/renowned complimentary/gratis
    alike/similar versus/compare nearby/near nearest/closest noisy/loud quick/speedy
    ill/unwell sick/unwell intelligent/smart stupid/dumb toxic/poisonous trustworthy/reliable
    reliable/dependable weird/strange whole/entire wrong/incorrect
    currently/presently immediately/instantly often/frequently quickly/rapidly/fast usually/normally/typically
    usually/generally
"""

_NOUNS_OF_VERBS: Final = """
    acceptance/accept activation/activate adjustment/adjust adoption/adopt analysis/analyze/analyse approval/approve
    arrival/arrive assessment/assess authentication/authenticate authorization/authorize authorisation/authorise
    birth/born calculation/calculate cancellation/cancel closure/close comparison/compare compression/compress
    construction/construct conversion/convert deactivation/deactivate death/die decryption/decrypt deletion/delete
    delivery/deliver departure/depart description/describe destruction/destroy diagnosis/diagnose discovery/discover
    encryption/encrypt enrolment/enrol enrollment/enroll evaporation/evaporate existence/exist explanation/explain
    explosion/explode extraction/extract fermentation/ferment flight/fly growth/grow immigration/immigrate
    improvement/improve installation/install integration/integrate invasion/invade invention/invent loss/lose
    maintenance/maintain marriage/marry measurement/measure migration/migrate pollination/pollinate recovery/recover
    reduction/reduce refusal/refuse registration/register rejection/reject removal/remove renewal/renew
    repayment/repay replacement/replace resignation/resign subscription/subscribe termination/terminate
    translation/translate usage/use verification/verify withdrawal/withdraw
"""

_GROUPS: Final = (_DOING, _MEASURES, _THINGS, _QUALITIES, _NOUNS_OF_VERBS)


class WordFrame(NamedTuple):
    """Where a word of these groups, one of `of` (empty: each of them), stands for the others: `beside` one of these
    words, right `behind` one of these, not behind one of `unlike`, not right `before` one of these. Empty ones ask for
    nothing."""

    groups: frozenset[str]
    of: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()
    unlike: frozenset[str] = frozenset()
    before: frozenset[str] = frozenset()


_DETERMINERS: Final = word_set("the a an my your our his her their this that which what any every no of")
_PARTICLES: Final = word_set("up down over in into out off on around back across along about to from with of for as")

FRAMES: Final = (
    WordFrame(word_set("acquire/buy acquire/purchase"), beside=word_set("who company")),
    WordFrame(word_set("cover/include"), beside=word_set("plan policy insurance warranty guarantee")),
    WordFrame(
        word_set("enable/turn disable/turn"),
        word_set("turn"),
        beside=word_set("on off"),
        before=_PARTICLES - word_set("on off"),
    ),
    WordFrame(word_set("mute/silence"), beside=word_set("group groups chat chats conversation notifications")),
    WordFrame(word_set("arrive/come"), word_set("come"), before=_PARTICLES),
    WordFrame(word_set("provide/offer supply/provide"), beside=word_set("you they does")),
    WordFrame(word_set("provide/offer"), word_set("offer"), unlike=_DETERMINERS, before=word_set("for on")),
    WordFrame(
        word_set("register/enrol/enroll"),
        word_set("register"),
        beside=word_set("course courses class classes school university"),
    ),
    WordFrame(word_set("reserve/book"), unlike=_DETERMINERS),
    WordFrame(
        word_set("run/execute"),
        beside=word_set("script scripts program command commands code query queries test tests function macro"),
    ),
    WordFrame(
        word_set(_MEASURES),
        word_set("high tall long wide deep heavy old far thick big large hot strong dense fast"),
        behind=word_set("how"),
    ),
    WordFrame(word_set("advantage/benefit/upside"), beside=word_set("of")),
    WordFrame(word_set("disk/drive"), behind=word_set("hard")),
    WordFrame(word_set("folder/directory"), beside=word_set("file files linux unix git path shell")),
    WordFrame(word_set("macos/mac"), beside=word_set("on")),
    WordFrame(word_set("papers/documents"), beside=word_set("need needed require required bring")),
    WordFrame(word_set("trip/travel"), beside=word_set("to")),
)


def _groups_of() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for group in (group for groups in _GROUPS for group in groups.split()):
        for word in group.split("/"):
            found.setdefault(word, set()).add(group)
    return {word: frozenset(groups) for word, groups in found.items()}


NEAR_SYNONYMS: Final = _groups_of()
"""Each word with its groups."""

NOUNS_OF_VERBS: Final = word_set(_NOUNS_OF_VERBS)
"""Groups of a noun and its verb."""
