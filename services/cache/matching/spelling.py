"""One spelling and one name for what has several: "colour" and "color", "the US" and "the USA", "how come" and "why".
English.

Promises: pure, total, linear; closed lists, by whole words. For the guards alone: the pair model was fitted without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from services.cache.matching.lexicon import word_set

__all__ = ["in_one_spelling"]

_BRITISH: Final = """
    aeroplane/airplane aesthetic/esthetic ageing/aging aluminium/aluminum amoeba/ameba anaemia/anemia anaemic/anemic
    anaesthesia/anesthesia anaesthetic/anesthetic analogue/analog armour/armor artefact/artifact behaviour/behavior
    calibre/caliber cancelled/canceled cancelling/canceling caesium/cesium catalogue/catalog centre/center
    chilli/chili clamour/clamor coloured/colored colouring/coloring colour/color colourful/colorful colours/colors
    cosy/cozy counsellor/counselor councillor/councilor defence/defense dialled/dialed dialogue/dialog
    diarrhoea/diarrhea doughnut/donut encyclopaedia/encyclopedia endeavour/endeavor enrol/enroll
    enrolment/enrollment enquiry/inquiry enquiries/inquiries faecal/fecal faeces/feces favour/favor
    favourite/favorite favourites/favorites fervour/fervor fibre/fiber fibres/fibers flavour/flavor flavours/flavors
    foetal/fetal foetus/fetus fuelled/fueled fulfil/fulfill fulfilment/fulfillment glamour/glamor goitre/goiter
    grey/gray greyscale/grayscale gynaecologist/gynecologist gynaecology/gynecology haemoglobin/hemoglobin
    haemophilia/hemophilia haemorrhage/hemorrhage harbour/harbor honour/honor honourable/honorable humour/humor
    instalment/installment instalments/installments jewellery/jewelry jeweller/jeweler judgement/judgment
    kilometre/kilometer kilometres/kilometers labelled/labeled labelling/labeling labour/labor leukaemia/leukemia
    levelled/leveled licence/license licences/licenses litre/liter litres/liters lustre/luster manoeuvre/maneuver
    manoeuvres/maneuvers marvellous/marvelous meagre/meager metre/meter metres/meters centimetre/centimeter
    centimetres/centimeters millimetre/millimeter millimetres/millimeters millilitre/milliliter
    millilitres/milliliters modelled/modeled modelling/modeling mould/mold mouldy/moldy moult/molt
    moustache/mustache mum/mom mums/moms neighbour/neighbor neighbourhood/neighborhood neighbours/neighbors
    odour/odor odours/odors oesophagus/esophagus oestrogen/estrogen offence/offense offences/offenses
    orthopaedic/orthopedic paediatric/pediatric paediatrician/pediatrician parlour/parlor plough/plow
    practise/practice practising/practicing pretence/pretense programme/program programmes/programs pyjamas/pajamas
    rigour/rigor rumour/rumor rumours/rumors sabre/saber saviour/savior savour/savor sceptic/skeptic
    sceptical/skeptical signalling/signaling skilful/skillful smoulder/smolder sombre/somber spectre/specter
    splendour/splendor succour/succor sulphate/sulfate sulphur/sulfur sulphuric/sulfuric theatre/theater
    theatres/theaters traveller/traveler travellers/travelers travelling/traveling travelled/traveled tumour/tumor
    tumours/tumors tyre/tire tyres/tires vapour/vapor vigour/vigor wilful/willful woollen/woolen yoghurt/yogurt
    yoghurts/yogurts analyse/analyze analysed/analyzed analysing/analyzing paralyse/paralyze paralysed/paralyzed
    catalyse/catalyze spilt/spilled dreamt/dreamed leapt/leaped whilst/while amongst/among towards/toward
    forwards/forward backwards/backward afterwards/afterward maths/math e-mail/email e-mails/emails adviser/advisor
    advisers/advisors
"""

_SPELLINGS: Final = dict(pair.split("/") for pair in _BRITISH.split())
_SPELLED: Final = _SPELLINGS.keys() | {"e"}

_VERBS_IN_IZE: Final = """
    agon alphabet amort anonym antagon apolog author automat capital categor character civil colon color computer critic
    crystal custom decentral demon digit dramat econom emphas energ equal fantas fertil final formal galvan general
    global harmon hospital hypnot ideal idol immun individual industrial initial internal ion item jeopard legal liberal
    local magnet marginal material maxim mechan memor mesmer minim mobil modern monet monopol moral national natural
    neutral normal optim organ ostrac oxid parallel parametr passion pasteur patron penal personal plagiar polar popular
    pressur prior privat pulver random rational real recogn regular revital revolution sanit satir scrutin sensit serial
    sexual social special stabil standard steril stigmat subsid summar symbol sympath synchron synthes system terror
    theor token traumat trivial urban util vandal vapor verbal victim visual vocal vulcan weapon western
"""
_ISE: Final = re.compile(
    f"((?:re|de|un|over|under|dis)?(?:{'|'.join(_VERBS_IN_IZE.split())}))is(e|ed|es|er|ers|ing|ation|ations|able)"
)

_NAMES: Final = {
    "US": "United States", "U.S.": "United States", "U.S": "United States", "U.S.A": "United States",
    "the States": "the United States", "United States of America": "United States",
    "U.K.": "United Kingdom", "U.K": "United Kingdom", "EU": "European Union", "UAE": "United Arab Emirates",
    "UN": "United Nations", "USSR": "Soviet Union", "NZ": "New Zealand", "Holland": "Netherlands",
    "the Netherlands": "Netherlands", "Czechia": "Czech Republic", "Burma": "Myanmar", "Swaziland": "Eswatini",
    "Cape Verde": "Cabo Verde", "East Timor": "Timor-Leste", "Türkiye": "Turkey", "Republic of Ireland": "Ireland",
    "DRC": "Democratic Republic of the Congo", "Washington, D.C.": "Washington DC",
    "World War One": "World War 1", "World War Two": "World War 2", "First World War": "World War 1",
    "Second World War": "World War 2", "First world war": "World War 1", "Second world war": "World War 2",
}  # fmt: skip
NAMES_MAX: Final = 16
"""So many names are written out in a question: one may be eleven times as long as what stood for it."""

_NAME: Final = re.compile(
    rf"(?<![\w./-])(?:{'|'.join(map(re.escape, sorted(_NAMES, key=len, reverse=True)))})(?![\w/-])"
)
_IN_NAMES: Final = frozenset(name.rstrip(".").split()[-1] for name in _NAMES) | {"America", "Netherlands"}
_PHRASES: Final = (
    (re.compile(r"\bhow come\b", re.IGNORECASE), "why"),
    (re.compile(r"\b(who|what|why|how|when|where) (?:is|was) it that\b", re.IGNORECASE), r"\1"),
    (re.compile(r"\b(what|which) (?:sort|type)s? of\b", re.IGNORECASE), r"\1 kind of"),
    (re.compile(r"\bwhat (?:happens|(?:would|will|does|could|might) happen) (?:if|when)\b", re.IGNORECASE),
     "what happens if"),
)  # fmt: skip
_IN_PHRASES: Final = word_set("come that sort type sorts types happen happens")
_WORD: Final = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def in_one_spelling(text: str, words: Sequence[str], tokens: Sequence[str]) -> str:
    """The text with American spellings, and full names of states. `words` are in lower case, `tokens` as they are
    written."""
    if not _IN_NAMES.isdisjoint(tokens):
        text = _NAME.sub(lambda found: _NAMES[found[0]], text, count=NAMES_MAX)
    if not _IN_PHRASES.isdisjoint(words):
        for pattern, written in _PHRASES:
            text = pattern.sub(written, text)
    if not _SPELLED.isdisjoint(words) or any("is" in word and _ISE.fullmatch(word) for word in words):
        text = _WORD.sub(lambda found: _american(found[0]), text)
    return text


def _american(word: str) -> str:
    lower = word.lower()
    spelled = _SPELLINGS.get(lower, lower)
    if found := _ISE.fullmatch(spelled):
        spelled = f"{found[1]}iz{found[2]}"
    if spelled == lower:
        return word
    return spelled.capitalize() if word[0].isupper() else spelled
