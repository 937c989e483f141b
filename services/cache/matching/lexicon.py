"""The words whose exchange changes what is asked: the tables that the verifier's guards read. English.

Promises: data only, lower case, bounded. A pair says: a text with only the one word and a text with only the other do
not ask the same. A missing pair costs little, because the guard on exchanged words covers what no table names.
"""

from __future__ import annotations

__all__ = [
    "ABBREVIATIONS",
    "ACRONYMS",
    "ACTIONS",
    "ANTONYMS",
    "AUXILIARIES",
    "CASED_WORDS",
    "COMMON_WORDS",
    "CONFUSABLES",
    "COUNTED_WORDS",
    "COURTESIES",
    "DIRECTIONAL_WORDS",
    "FOREIGN_FUNCTION_WORDS",
    "FUNCTION_WORDS",
    "GENITIVE_WORDS",
    "IRREGULAR",
    "LIGHT_WORDS",
    "NEGATING_PREFIXES",
    "NEGATIONS",
    "NUMBER_WORDS",
    "OBJECTS",
    "PART_WORDS",
    "PERSONS",
    "ROMAN_NUMERALS",
    "SHOUTED_WORDS",
    "STRANDED_WORDS",
    "SYNONYMS",
    "TRAILING_COURTESIES",
    "UNITS",
    "word_set",
]


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((a, b) for a, b in (pair.split("/") for pair in text.split()))


def word_set(text: str) -> frozenset[str]:
    """The words of a text as a set."""
    return frozenset(text.split())


def _groups(text: str) -> dict[str, str]:
    return {word: group.split("/")[0] for group in text.split() for word in group.split("/")}


ANTONYMS = _pairs("""
    on/off up/down in/out into/outof over/under above/below before/after inside/outside to/from
    enable/disable enabled/disabled enabling/disabling activate/deactivate start/stop start/end
    starting/stopping begin/end
    open/close opening/closing opened/closed open/closed lock/unlock locked/unlocked install/uninstall load/unload
    connect/disconnect mount/unmount subscribe/unsubscribe follow/unfollow block/unblock mute/unmute hide/show
    show/conceal add/remove adding/removing insert/delete create/delete create/destroy attach/detach import/export
    upload/download push/pull send/receive sending/receiving give/take lend/borrow buy/sell buying/selling bought/sold
    deposit/withdraw deposit/withdrawal credit/debit lend/owe win/lose winning/losing won/lost pass/fail passed/failed
    accept/reject accept/decline accepted/rejected approve/reject approve/deny allow/deny allow/forbid allow/block
    allowed/forbidden allowed/prohibited grant/revoke permit/prohibit include/exclude including/excluding
    included/excluded increase/decrease increasing/decreasing increased/decreased increase/reduce raise/lower raise/cut
    raise/reduce rise/fall rising/falling grow/shrink gain/lose gaining/losing expand/contract expand/collapse
    minimum/maximum min/max minimize/maximize minimise/maximise least/most less/more fewer/more lowest/highest low/high
    lower/higher lower/upper small/large small/big smaller/larger smaller/bigger smallest/largest smallest/biggest
    short/long shorter/longer shortest/longest short/tall near/far nearest/farthest narrow/wide thin/thick light/heavy
    light/dark bright/dark hot/cold warm/cool heat/cool heating/cooling fast/slow faster/slower speed/slow early/late
    earlier/later earliest/latest first/last old/new older/newer oldest/newest old/young older/younger ancient/modern
    best/worst better/worse good/bad right/wrong right/left true/false correct/incorrect positive/negative plus/minus
    add/subtract multiply/divide sum/difference encrypt/decrypt encode/decode compress/decompress serialize/deserialize
    pack/unpack zip/unzip ascending/descending horizontal/vertical row/column rows/columns input/output read/write
    reading/writing public/private internal/external static/dynamic local/remote local/global client/server
    sync/async synchronous/asynchronous abstract/concrete singular/plural active/passive active/inactive odd/even
    always/never all/none everything/nothing everyone/nobody any/none always/sometimes every/least all/least less/least
    fewer/least under/least below/least over/most above/most many/few with/without full/empty fill/empty
    advantage/disadvantage advantages/disadvantages pros/cons benefit/risk benefits/risks strength/weakness
    strengths/weaknesses cause/effect causes/effects cause/prevent causes/symptoms cause/cure symptom/treatment
    symptoms/treatment symptoms/treatments cause/treatment question/answer problem/solution supply/demand profit/loss
    asset/liability income/expense revenue/cost import/exports employer/employee teacher/student parent/child
    doctor/patient landlord/tenant buyer/seller sender/recipient sender/receiver lender/borrower winner/loser
    he/she him/her his/her man/woman men/women male/female boy/girl boys/girls son/daughter brother/sister
    father/mother dad/mom husband/wife boyfriend/girlfriend uncle/aunt king/queen actor/actress
    my/your mine/yours me/you my/his my/her my/their our/your our/their your/his your/her your/their
    day/night morning/evening morning/night am/pm today/tomorrow today/yesterday tomorrow/yesterday current/previous
    next/previous next/last past/future current/former present/past is/was are/were do/did does/did has/had
    legal/illegal safe/dangerous safe/unsafe healthy/unhealthy possible/impossible easy/hard easy/difficult
    simple/complex cheap/expensive cheapest/expensive rich/poor poor/wealthy strong/weak hard/soft wet/dry alive/dead
    live/die birth/death born/died arrive/leave arrive/depart arrival/departure enter/exit enter/leave entrance/exit
    inbound/outbound incoming/outgoing import/exported push/pop head/tail top/bottom front/back forward/backward
    forwards/backwards north/south east/west northern/southern eastern/western sunrise/sunset summer/winter
    freeze/melt freezing/melting freezing/boiling boil/freeze sink/float attack/defend love/hate friend/enemy
    war/peace victory/defeat marriage/divorce marry/divorce hire/fire hired/fired promote/demote optional/required
    optional/mandatory sit/stand sleep/wake remember/forget save/spend save/delete spend/earn backup/restore
    commit/revert merge/split join/leave join/split lead/follow question/statement sweet/sour sweet/bitter
    upgrade/downgrade login/logout signin/signout ask/answer hypo/hyper
    celsius/fahrenheit kilograms/pounds kilometers/miles kilometres/miles meters/feet metres/feet vegan/meat
""")

ACTIONS = word_set("""
    activate add apply approve archive assign attach authorise authorize backup ban block book borrow buy cancel
    certify change clean clone close commit confirm connect convert copy correct create deactivate debug decline
    decrypt delete deliver deny deploy deposit destroy detach disable disconnect dispute divorce donate downgrade
    download edit email enable encrypt enrol enroll escalate evict exchange export extend fire follow freeze grant
    import increase insert install insure invest invite invoice join kill lease leave lend link lock login logout
    lower marry merge migrate monitor mount move notify pause pay postpone promote protect publish pull purchase
    push quit raise reboot rebuild receive recover recycle redeem reduce refinance refund refuse register reject
    release remove rename renew rent repair repay replace report reschedule reserve reset resign restart restore
    resume return revert review revoke rotate sanitise sanitize scan schedule sell send share ship skip spend split
    steal submit subscribe suspend swap switch sync terminate test track trade train transfer translate treat
    unblock undelete undo unfollow unfreeze uninstall unlink unlock unmute unregister unsubscribe update upgrade
    upload validate verify void waive wash wipe withdraw
""")
"""What may be done to a thing: an answer whose own questions never name the one asked for is not known to serve it."""

COMMON_WORDS = word_set("to in is are do has")
"""Words of ANTONYMS that are in every other sentence, and so say something only where they replace their partner."""

ACRONYMS = word_set("""
    atm usa uk eu faq url html css json xml sql api pdf gps tv dvd usb cpu gpu gbp eur usd iban nasa fbi cia hiv dna rna
    vpn dns http https ssl tls ssh ftp seo kyc ssn ceo cfo nfc qr sms php jpg png csv yaml
""")
"""Names that are no words in lower case, so that capitals or none are a matter of care."""

CONFUSABLES = _pairs("""
    http/https ftp/ftps smtp/smtps imap/imaps ldap/ldaps
    desert/dessert casual/causal martial/marital prescribe/proscribe principal/principle stationary/stationery
    complement/compliment discreet/discrete ensure/insure affect/effect adverse/averse
    aid/aids
""")
"""Different words that look like one mistyped or inflected."""

SYNONYMS = _groups("""
    change/modify/alter begin/start/launch stop/halt buy/purchase big/large/huge small/little tiny/little
    quick/fast/rapid quickest/fastest max/maximum/highest/maximal min/minimum/lowest/minimal lower/reduce/decrease
    raise/increase combine/merge house/home enable/activate disable/deactivate clever/smart sick/ill happy/glad
    beautiful/pretty choose/select/pick allow/permit assist/help attempt/try author/writer bike/bicycle client/customer
    company/firm complete/finish conserve/preserve couch/sofa drug/medication/medicine garbage/trash/rubbish
    gift/present holiday/vacation laptop/notebook lawyer/attorney link/url machine/computer nation/country
    plane/airplane/aircraft
    postcode/zipcode salary/wage/pay shop/store symptom/sign tv/television wealthy/rich infant/baby autumn/fall
    inexpensive/cheap costly/expensive mandatory/compulsory/obligatory prior/previous annual/yearly eat/consume
    legal/lawful safe/secure famous/known hard/difficult easy/simple build/construct answer/reply/respond
    delete/remove/erase show/display make/create/build fix/repair/solve/resolve mistake/error bug/error
    car/automobile phone/telephone movie/film kid/child doctor/physician picture/photo/image app/application
    mean/meaning/definition/define cost/price/charge get/obtain use/utilize/utilise difference/distinction
    explain/describe someone/somebody anyone/anybody everyone/everybody website/site color/colour
    best/top/finest favorite/favourite find/locate city/town job/occupation learn/study way/method/approach reason/why
""")
"""Words that may stand in each other's place; each maps to the first of its group."""

IRREGULAR = _groups("""
    write/wrote/written beat/beaten buy/bought sell/sold send/sent pay/paid take/took/taken give/gave/given make/made
    know/knew/known eat/ate/eaten drink/drank/drunk break/broke/broken choose/chose/chosen drive/drove/driven
    speak/spoken steal/stole/stolen freeze/froze/frozen fly/flew/flown grow/grew/grown throw/threw/thrown
    draw/drew/drawn withdraw/withdrew/withdrawn build/built lose/lost win/won teach/taught bring/brought catch/caught
    keep/kept sleep/slept spend/spent lend/lent hold/held begin/began/begun swim/swam/swum sing/sang/sung
    ride/rode/ridden hide/hid/hidden forget/forgot/forgotten understand/understood become/became wear/wore/worn
    go/went/gone come/came meet/met sit/sat hear/heard feel/felt fight/fought feed/fed bite/bitten blow/blew/blown
    fall/fell/fallen shake/shook/shaken think/thought tell/told wake/woke/woken rise/risen tear/tore/torn
    stick/stuck strike/struck dig/dug hang/hung deal/dealt burn/burnt learn/learnt spell/spelt prove/proven
    shrink/shrank/shrunk run/ran see/seen seek/sought
""")
"""Forms of verbs that no rule gives, each with its verb. Those that are other words as well ("left") are left out."""

ABBREVIATIONS = {
    "wwi": "World War 1", "ww1": "World War 1", "wwii": "World War 2", "ww2": "World War 2", "nyc": "New York City",
    "usa": "United States", "u.s.a.": "United States", "uk": "United Kingdom",
    "in order to": "to", "2fa": "two factor authentication", "sqrt": "square root",
}  # fmt: skip
"""Written out they are compared with what others write out."""

COUNTED_WORDS = word_set("war part type phase chapter volume episode class grade stage level schedule tier act")
"""Behind these II, III and their like are numbers."""

ROMAN_NUMERALS = {"II": "2", "III": "3", "IV": "4", "VI": "6", "VII": "7", "VIII": "8", "IX": "9"}

NEGATIONS = word_set("""
    not no never none nobody nothing nowhere neither nor cannot without except excluding unless hardly barely avoid
    lack lacks lacking isnt arent wasnt werent dont doesnt didnt wont wouldnt cant couldnt shouldnt mustnt hasnt havent
    hadnt aint prevent
    """)

NEGATING_PREFIXES = ("un", "in", "im", "il", "ir", "dis", "non", "de", "mis", "anti", "under", "over", "a")

NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate((
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
    ))
} | {
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
    "hundred": "100", "thousand": "1000", "million": "1e6", "billion": "1e9", "trillion": "1e12", "dozen": "12",
    "half": "1/2", "quarter": "1/4", "third": "3rd", "fourth": "4th", "fifth": "5th", "sixth": "6th", "seventh": "7th",
    "eighth": "8th", "ninth": "9th", "tenth": "10th", "double": "x2", "twice": "x2", "triple": "x3", "thrice": "x3",
    "single": "x1", "once": "x1",
}  # fmt: skip
"""Written numbers as they are compared with digits. "first" and "second" are left to the other guards."""

UNITS = _groups("""
    second/seconds/sec/secs minute/minutes/mins hour/hours/hrs day/days/daily week/weeks/weekly month/months/monthly
    year/years/yearly/annual/annually decade/decades century/centuries millisecond/milliseconds/ms
    mm/millimeter/millimeters cm/centimeter/centimeters/centimetre/centimetres m/meter/meters/metre/metres
    km/kilometer/kilometers/kilometre/kilometres inch/inches foot/feet yard/yards mile/miles
    mg/milligram/milligrams gram/grams kg/kilogram/kilograms/kilo/kilos ton/tons/tonne/tonnes ounce/ounces/oz
    pound/pounds/lb/lbs liter/liters/litre/litres ml/milliliter/milliliters gallon/gallons cup/cups
    teaspoon/teaspoons/tsp tablespoon/tablespoons/tbsp celsius/centigrade fahrenheit kelvin
    dollar/dollars/usd euro/euros/eur rupee/rupees/inr yen/jpy gbp percent/percentage cent/cents
    byte/bytes kb/kilobyte/kilobytes mb/megabyte/megabytes gb/gigabyte/gigabytes tb/terabyte/terabytes bit/bits
    volt/volts watt/watts amp/amps calorie/calories monday/mondays
    tuesday/tuesdays wednesday/wednesdays thursday/thursdays friday/fridays saturday/saturdays sunday/sundays
    january february march april june july august september october november december
""")
"""Units of measure and time, each mapped to one spelling."""

DIRECTIONAL_WORDS = word_set("to from into onto than over under before after by against versus vs between minus")
"""Words that say what part the next word plays, wherever it stands."""

GENITIVE_WORDS = frozenset({"of"})
"""Words that another order may replace: "symptoms of a cold", "cold symptoms"."""

LIGHT_WORDS = word_set("""
    need needs needed want wants wanted like likes liked get gets got give gives know knows help helps helped have has
    had let
""")
"""Verbs that are in every other question, and yet say who does it to whom by where they stand."""

PERSONS = {
    "i": "1", "me": "1", "we": "1", "us": "1", "you": "2", "he": "3m", "him": "3m", "she": "3f", "they": "3p",
    "them": "3p",
}  # fmt: skip
"""Persons, whichever part they play."""

AUXILIARIES = {
    word: kind
    for kind, words in {
        "be": "is are was were am be been being isnt arent wasnt werent",
        "do": "do does did dont doesnt didnt",
        "can": "can could may might cant cannot couldnt",
        "should": "should must shall ought shouldnt mustnt",
        "will": "will would wont wouldnt",
        "have": "has have had hasnt havent hadnt",
    }.items()
    for word in words.split()
}
"""Auxiliary verbs by what a question that opens with them asks: whether it is so, happens, can, should, will, has."""

COURTESIES = (
    *(
        tuple(f"{asking} you {please} {verb}".split())
        for asking in ("can", "could", "would", "will")
        for please in ("", "please", "kindly")
        for verb in ("tell me", "show me", "give me", "explain", "explain to me", "describe", "help me understand")
    ),
    *(
        tuple(phrase.split())
        for phrase in (
            "please", "kindly", "hi", "hello", "hey", "tell me", "show me", "give me", "explain", "explain to me",
            "describe", "do you know", "does anyone know", "i want to know", "i would like to know", "id like to know",
            "i wonder", "i am wondering", "im wondering", "let me know", "good morning", "good afternoon",
            "good evening", "good day", "excuse me", "pardon me", "quick question", "guide me", "help me",
            "can you help me", "could you help me", "help me to", "can you help me to", "could you help me to",
        )
    ),
)  # fmt: skip
"""Ways to begin a question that are no part of it."""

TRAILING_COURTESIES = frozenset({("to", "me"), ("for", "me")})
"""What may end a text that begins with a courtesy: "explain it to me"."""

OBJECTS = {"me": "1", "us": "1", "him": "3m", "them": "3p"}
"""Persons to whom something is done. "her" is also a possessor, and "you" anybody."""

PART_WORDS = word_set("by for from about against")
"""Prepositions that give what follows a part of its own: books by Plato are not books about Plato."""

STRANDED_WORDS = word_set("of by to from for with about like on in at into over against after up down out off")
"""Words that end a question when what they belong to is asked for: "what are cats like", "what are cats"."""

SHOUTED_WORDS = word_set("us it who")
"""Common words that are names when they are written in capitals. Others, like NOT, are only stressed."""

CASED_WORDS = word_set("""
    turkey china polish nice reading bath cork lima mobile jersey guinea chad jordan georgia victoria troy cologne essen
    phoenix buffalo boulder aurora providence march august may mercury mars saturn venus pluto titan
    apple amazon orange shell target gap subway tide dove visa chase discover square stripe windows word excel office
    access teams outlook edge steam nest echo meta alphabet slack zoom signal discord oracle sage
    ruby rust swift spring dart julia scala flask express react angular node spark hive pig storm bootstrap electron
    pole poles jaguar puma beetle galaxy pixel surface mustang
    atom eclipse aids sat act mole lent mass bill mark rose jack frank grant carol grace hope faith joy pat sue lance
    pierce drew chuck will trump bush gates ford page cook cruise stone rice woods fox wolf king queen prince church
    bell black white brown green west east
""")
"""Words that mean another thing when they are written as names, also where a text takes no care of capitals."""

FUNCTION_WORDS = word_set("""
    a an the this that these those there here it its itself s t re ve ll d m i me my mine we us our ours you your yours
    he him his she her hers they them their theirs one ones who whom whose what whats which when where why how
    is are was were be been being am do does did done doing have has had having can could may might must shall should
    will would ought need to from of in on at by for with about as into than over under between through during up down
    out off and or but if so then because while though although also too just very really please kindly tell give show
    explain describe let know want wanna would like get got give say me us exactly actually some any such same own
    each every both other another only ever still already yet even much many lot lots more most less least now
    possible able hi hello hey thanks thank ok okay quick quickly question answer help wondering wonder
    """)
"""Words that another phrasing of one question may add or leave out; what is left are content words."""

FOREIGN_FUNCTION_WORDS = word_set("""
    der das die und ist nicht ein eine wie wer wo wann warum ich du wir sie mit von für auf zu den dem des kann welche
    le la les un une des est et pas que qui quoi où quand comment pourquoi je tu nous vous avec dans pour sur du au
    el los las una es y cómo qué quién dónde cuándo por para con del al mi su está cual como donde cuando
    il lo gli uno è e non che chi come dove quando perché io con per di della sono
    o os um uma é não que quem onde quando como por para com do da meu seu
    de het een en niet wat wie waar hoe waarom ik jij wij met van voor op
    och är inte hur vad var jag ett og ikke hvordan hvad jeg nie jak co gdzie jest się bir ve nasıl
    """) - word_set("""
    die des do como come me non van o e a es en per is on at in was son will den y
""")
"""Common words of other languages that are no common English words."""
