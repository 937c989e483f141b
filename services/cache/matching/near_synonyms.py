"""Words that may stand in each other's place in a question that is otherwise the same. English.

Promises: data only, lower case, bounded. A word may be in several groups, and only words that share one stand for each
other: "turn" for "enable" and for "disable", but not these. Read by the guards alone: the pair model was fitted without
them. What changes what is done, to what, by or for whom has no place here: "pause" and "cancel", "repair" and
"replace", "rent" and "buy", "credit" and "debit" are other things.
"""

from __future__ import annotations

from typing import Final

__all__ = ["NEAR_SYNONYMS"]

_GROUPS: Final = """
    disk/drive harddisk/drive mute/silence consider/considered join/enter quit/exit leave/exit room/space symptom/sign
    entitled/allowed opinion/think opinion/view commission/fee abort/stop abort/cancel correct/proper
    enable/turn/switch disable/turn/switch acquire/buy/purchase obtain/acquire submit/file/lodge register/enrol/enroll
    reserve/book reserve/schedule arrange/organise/organize arrange/schedule postpone/reschedule/defer/delay
    assemble/build manufacture/produce/make create/produce/generate create/establish establish/found start/found
    launch/release compose/write draft/write author/write invent/discover develop/build devise/invent contain/include
    comprise/include contain/have include/have cover/include provide/offer supply/provide serve/offer provide/give
    grant/give grant/allow permit/grant let/allow let/permit forbid/prohibit/ban prevent/avoid/stop prevent/keep
    require/need/demand necessary/need necessary/required/needed recommend/suggest/advise believe/trust believe/think
    trustworthy/trusted/reliable reliable/dependable view/see/look watch/see observe/see check/verify check/inspect
    examine/inspect verify/confirm connect/link/attach attach/add add/put add/insert insert/place expire/end
    expire/lapse conclude/end finish/end complete/end terminate/end/finish finish/conclude remain/stay
    live/reside/dwell inhabitant/people/resident population/people/inhabitant live/people occur/happen place/happen
    arise/happen originate/come arrive/come broken/faulty/defective damaged/broken crash/fail malfunction/fail
    wash/clean cleanse/clean rinse/wash tidy/clean wipe/clean cook/prepare prepare/make keep/store keep/preserve
    store/save retain/keep improve/enhance improve/better boost/increase boost/improve expand/increase grow/increase
    raise/boost bigger/larger/greater smaller/littler big/great shrink/reduce lessen/reduce cut/reduce diminish/reduce
    shorten/reduce speed/velocity/pace/rate speed/fast height/high height/tall length/long width/wide depth/deep
    weight/heavy age/old distance/far volume/loud thickness/thick size/big size/large temperature/hot duration/long
    duration/time strength/strong density/dense fee/charge fee/cost expense/cost tariff/fee expensive/cost
    deadline/due expiry/expiration paper/document form/document certificate/document papers/documents
    bag/baggage/luggage suitcase/luggage near/close nearby/near nearest/closest whole/entire/complete total/entire
    full/complete error/fault/problem issue/problem trouble/problem difficulty/problem bug/problem/issue failure/error
    rule/regulation law/regulation law/rule policy/rule guideline/rule method/technique procedure/process means/method
    purpose/goal/aim aim/target function/purpose role/function kind/type/sort category/type variety/type
    part/piece/component section/part element/component feature/function feature/characteristic trait/characteristic
    property/characteristic effect/impact/consequence result/outcome/consequence influence/effect
    affect/influence/impact advantage/benefit/pro/upside disadvantage/drawback/con/downside importance/significance
    important/significant crucial/important vital/important essential/necessary main/primary/principal major/main
    chief/main key/main famous/popular well-known/famous renowned/famous common/frequent usual/typical normal/usual
    ordinary/normal regular/normal standard/normal typical/common average/typical wrong/incorrect right/correct
    proper/correct appropriate/suitable/proper fit/suitable accurate/exact precise/exact correct/accurate
    dangerous/hazardous/risky harmful/dangerous toxic/poisonous poison/toxin harmful/bad healthy/wholesome
    child/youngster boy/lad girl/lass woman/lady man/guy elderly/old physician/surgeon lawyer/solicitor police/cop
    staff/employee/personnel worker/employee colleague/coworker employee/worker boss/supervisor manager/supervisor
    leader/head head/chief office/bureau workplace/office firm/business business/company enterprise/company
    corporation/company restaurant/diner pub/bar hotel/inn road/street avenue/street route/way route/road path/way
    auto/car lorry/truck coach/bus bicycle/cycle motorbike/motorcycle underground/subway/metro flat/apartment
    home/residence dwelling/residence cellar/basement garden/yard lift/elevator tap/faucet stove/cooker/hob
    fridge/refrigerator freezer/deepfreeze hoover/vacuum bulb/lamp lamp/light sofa/settee cupboard/closet/wardrobe
    rug/carpet curtain/drape clothes/clothing garment/clothing trousers/pants jumper/sweater/pullover
    sneakers/trainers sweets/candy biscuit/cookie crisps/chips aubergine/eggplant courgette/zucchini
    coriander/cilantro soda/pop drink/beverage sick/unwell ill/unwell disease/illness/sickness
    disorder/illness/condition injury/wound ache/pain sore/painful pill/tablet remedy/cure vaccine/vaccination/jab
    shot/jab pregnant/expecting pregnancy/pregnant stain/spot stain/mark dirt/grime mould/mold wage/income
    earnings/income earn/make refund/reimbursement reimburse/refund repay/reimburse repay/refund fine/penalty
    penalty/punishment parcel/package shipment/package shipment/delivery consignment/shipment ship/deliver send/ship
    dispatch/send/ship forward/send post/mail mail/send transmit/send wire/transfer warranty/guarantee
    assurance/guarantee contract/agreement deal/agreement subscription/plan membership/subscription plan/package
    passphrase/password folder/directory document/file picture/snapshot screen/display monitor/screen
    cellphone/phone/mobile smartphone/phone mobile/phone pc/computer program/software software/application
    software/app programme/program webpage/page webpage/website homepage/website portal/website
    setting/option/preference configure/set configure/setup setup/install configuration/settings query/question
    request/query inquiry/enquiry/question comment/remark note/remark message/text e-mail/email mail/email
    meeting/appointment session/meeting conference/meeting call/phone phone/telephone holiday/leave vacation/leave
    trip/journey/travel voyage/journey tour/trip visit/travel ticket/pass pupil/student teacher/instructor/tutor
    class/lesson/course training/course exam/test examination/test quiz/test assignment/homework task/assignment
    job/task duty/task grade/mark score/mark study/research investigate/research analyse/analyze/examine
    sentence/phrase term/expression phrase/expression language/tongue battle/fight war/conflict conflict/fight
    defeat/beat win/beat victory/win die/perish death/dying begin/commence start/commence open/start close/shut
    speak/talk tell/inform inform/notify notify/alert assist/support help/support support/back respond/react
    obtain/fetch bring/fetch bear/carry choose/opt decide/choose hire/employ recruit/hire employ/use lead/manage/run
    manage/handle handle/deal deal/cope responsible/charge responsible/handle responsible/care control/manage
    operate/run operate/use run/execute talk/discuss discuss/debate eliminate/remove discard/remove rid/remove
    extract/remove throw/discard dispose/discard erase/wipe clear/erase clear/remove clear/empty separate/divide
    split/divide part/separate differ/difference/different distinguish/differ distinction/difference
    distinguish/difference compare/difference versus/compare equal/same identical/same alike/same similar/alike
    similar/like translate/convert transform/convert calculate/compute/determine work/calculate estimate/calculate
    figure/calculate measure/determine determine/find discover/find detect/find identify/detect
    recognise/recognize/identify explain/clarify plant/sow grow/cultivate raise/grow harvest/reap prune/trim trim/cut
    photo/photograph photograph/picture film/movie series/show tv/television song/tune music/song novel/book
    story/tale newspaper/paper magazine/journal shore/coast beach/coast forest/woods stone/rock quick/speedy
    rapid/quick swift/fast immediately/instantly instantly/now quickly/fast rapidly/quickly speedily/quickly
    often/frequently regularly/often usually/normally typically/usually generally/usually currently/presently
    maximum/limit minimum/least limit/cap employee/staff visible/see access/see access/open access/use usable/use
    available/offer available/get valid/good valid/acceptable acceptable/accept wait/await replace/exchange/substitute
    swap/exchange strange/odd weird/strange unusual/strange empty/vacant modern/contemporary quiet/silent noise/sound
    noisy/loud smart/intelligent intelligence/intelligent stupid/dumb angry/mad afraid/scared fear/afraid fear/scared
    cheap/affordable free/complimentary free/gratis gratis/complimentary spouse/partner mum/mother mom/mother
    dad/father grandma/grandmother grandpa/grandfather quantity/amount sum/amount component/ingredient
    fitness/exercise exercise/workout gym/fitness slim/thin tasty/delicious internet/web internet/online wifi/wireless
    cold/chilly hot/warm rubbish/waste garbage/waste petrol/gas gasoline/petrol coupon/voucher discount/rebate
    discount/reduction customer/shopper seller/vendor vendor/supplier timetable/schedule birthday/born cause/reason
    reason/why founder/creator creator/inventor inventor/creator password/passcode woman/women man/men child/children
    tooth/teeth mouse/mice person/people leaf/leaves knife/knives life/lives advice/advise hot/heat america/us
    america/states macos/mac
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


def _groups_of() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for number, group in enumerate(f"{_GROUPS} {_NOUNS_OF_VERBS}".split()):
        for word in group.split("/"):
            found.setdefault(word, set()).add(f"~{number}")
    return {word: frozenset(groups) for word, groups in found.items()}


NEAR_SYNONYMS: Final = _groups_of()
"""Each word with the names of its groups."""
