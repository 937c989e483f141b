"""Words that may stand in each other's place in a question that is otherwise the same. English.

Promises: data only, lower case, bounded; no group is part of another. A word may be in several groups, and only words
that share one stand for each other: "turn" for "enable" and for "disable", but not these. Read by the guards alone: the
pair model was fitted without them.

Each group was read for what may be done with or to what it names: where one word does, asks for or names something
that the other does not, in a common question, they are no group ("mail" and "email", "surgeon" and "physician", "clear"
and "remove", "plan" and "package", "switch" and "disable"). So words of many meanings ("charge", "term", "run", "file")
are mostly left out. What is a group is close, not equal: the pair model still decides.
"""

from __future__ import annotations

from typing import Final

__all__ = ["NEAR_SYNONYMS"]

_DOING: Final = """
    acquire/buy acquire/purchase add/put author/write begin/commence start/commence close/shut cover/include
    terminate/end expire/end expire/lapse examine/inspect forbid/prohibit prohibited/banned grant/give cultivate/grow
    hire/recruit inform/notify manufacture/produce manufacture/make devise/invent defeat/beat die/perish divide/split
    discard/dispose enable/turn disable/turn enhance/improve lessen/reduce diminish/reduce mute/silence
    occur/happen arrive/come postpone/defer provide/offer supply/provide quit/exit recommend/suggest/advise
    register/enrol/enroll require/need necessary/required/needed reserve/book reside/live dwell/live run/execute
    speak/talk submit/lodge view/see wait/await calculate/compute establish/found
    organise/organize recognise/recognize
"""

_MEASURES: Final = """
    height/high height/tall length/long width/wide depth/deep weight/heavy age/old distance/far thickness/thick
    size/big size/large temperature/hot duration/long strength/strong density/dense speed/fast
    quantity/amount population/people population/inhabitant
"""

_THINGS: Final = """
    advantage/benefit/upside disadvantage/drawback/downside baggage/luggage basement/cellar boy/lad girl/lass
    cause/reason cellphone/phone smartphone/phone clothes/clothing colleague/coworker coriander/cilantro
    courgette/zucchini aubergine/eggplant curtain/drape dad/father mum/mother mom/mother deadline/due
    difference/differ difference/different disease/illness disk/drive harddisk/drive effect/impact exam/examination
    expiry/expiration folder/directory forest/woods fridge/refrigerator grandma/grandmother grandpa/grandfather
    hoover/vacuum importance/significance income/earnings inquiry/enquiry lift/elevator lorry/truck macos/mac
    method/technique motorbike/motorcycle mold/mould papers/documents parcel/package pc/computer petrol/gasoline
    photo/photograph pregnant/pregnancy procedure/process programme/program pupil/student rule/regulation
    seller/vendor setting/preference sofa/settee staff/employee/personnel worker/employee subway/metro
    sweater/pullover tap/faucet timetable/schedule trip/journey trip/travel vaccine/vaccination coupon/voucher
    warranty/guarantee exercise/workout
    person/people woman/women man/men child/children tooth/teeth mouse/mice leaf/leaves knife/knives
"""

_QUALITIES: Final = """
    afraid/scared appropriate/suitable bigger/larger/greater smaller/littler broken/faulty/defective
    cheap/affordable crucial/vital dangerous/hazardous delicious/tasty famous/renowned free/complimentary/gratis
    identical/same alike/similar versus/compare nearby/near nearest/closest noisy/loud quick/speedy swift/fast
    ill/unwell sick/unwell intelligent/smart stupid/dumb toxic/poisonous trustworthy/trusted/reliable
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


def _groups_of() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for number, group in enumerate(group for groups in _GROUPS for group in groups.split()):
        for word in group.split("/"):
            found.setdefault(word, set()).add(f"~{number}")
    return {word: frozenset(groups) for word, groups in found.items()}


NEAR_SYNONYMS: Final = _groups_of()
"""Each word with the names of its groups."""
