"""Questions whose answer is another one tomorrow, or for another person: by their words, in several languages.

Promises: pure, linear in the text, of which a bounded part is read: a question stands at the beginning or at the end of
a long text, and what lies between is the text that is asked about, whose words say nothing of the question. Precision
before completeness: "How do I reset my password?" has one answer for all, "Where is my order?" has not. The lists know
English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Russian, Chinese and Japanese.
"""

from __future__ import annotations

import re

__all__ = ["READ_CHARS_MAX", "is_personal", "is_time_sensitive"]

READ_CHARS_MAX = 600
"""Of a longer text the first and the last half of so many characters are read."""

_NOW_WORDS = (
    # English
    r"today(?:'s)?|tonight|tomorrow|yesterday|nowadays|right now|at the moment|currently",
    r"latest (?:\w+ )?(?:news|headlines|scores?|results?|prices?|rates?|version|release|update)",
    r"as of now|this (?:morning|afternoon|evening|week|weekend|month|year|season)|last night",
    r"breaking news|what time is it|weather forecast|live scores?",
    r"what(?:'s| is) the (?:date|time|weather)(?=\W*$|[?!.,;]| (?:in|at|on|for|like|now|there|here|outside|please)\b)",
    r"current(?:ly)? (?:price|rate|exchange rate|weather|temperature|time|date|status|version|president|prime minister"
    r"|ceo|champion|situation|score|stock|value|events?|news|traffic|population|record|interest rate|inflation)s?",
    r"(?:stock|share|bitcoin|oil|gold|gas) prices?|exchange rate",
    r"prices? of (?:gold|silver|oil|gas|petrol|diesel|bitcoin|ethereum)",
    # German
    r"heute|heutige[nrs]?|gestern|morgen früh|gerade eben|derzeit|momentan|im moment",
    r"aktuell(?:e[nmrs]?)?|neueste[nmrs]?",
    r"diese (?:woche|saison)|dies(?:es|en) (?:jahr|monat)|wie spät|wetterbericht|wechselkurs|aktienkurs",
    # French
    r"aujourd['’]hui|hier soir|demain|en ce moment|actuellement|actuel(?:le)?s?|quelle heure|cette (?:semaine|année)",
    r"ce (?:mois|matin|soir)|derni(?:er|ère)s? (?:version|nouvelles?)|taux de change|la météo",
    # Spanish
    r"hoy|ayer|mañana por la mañana|ahora mismo|en este momento|actualmente|actuales|qué hora es|esta semana",
    r"este (?:mes|año)|últim[oa]s? (?:versión|noticias?)|tipo de cambio",
    # Italian
    r"oggi|ieri|domani|in questo momento|attualmente|attual[ei]|che ore sono|che ora è|questa settimana|quest['’]anno",
    r"ultim[aeio] (?:versione|notizi[ae])|tasso di cambio",
    # Portuguese
    r"hoje|ontem|amanhã|agora mesmo|neste momento|atualmente|atua(?:l|is)|que horas são|esta semana|este (?:mês|ano)",
    r"últim[ao]s? (?:versão|notícias?)|taxa de câmbio",
    # Dutch
    r"vandaag|gisteren|morgenochtend|op dit moment|momenteel|huidige|nieuwste|hoe laat is het|deze week|dit jaar",
    # Polish
    r"dzisiaj|dziś|wczoraj|jutro|obecnie|aktualn[aey]|najnowsz[aey]|która godzina|w tym (?:tygodniu|roku|miesiącu)",
    # Russian
    r"сегодня|вчера|завтра|сейчас|на данный момент|текущ(?:ий|ая|ее|ие)|последние новости|который час",
    r"на этой неделе|в этом (?:году|месяце)|курс (?:доллара|евро|валют)",
)

_NOW_SIGNS = r"今天|今日|昨天|昨日|明天|明日|现在|現在|目前|最新|当前|本周|今週|今月|今年|几点|何時"

_THINGS = (
    r"orders?|accounts?|balance|bills?|invoices?|bookings?|reservations?|appointments?|deliver(?:y|ies)|parcels?"
    r"|packages?|shipments?|refunds?|prescriptions?|diagnosis|test results?|lab results?|medical records?|salary"
    r"|payslip|paycheck|mortgage|loans?|claims?|tickets?|contracts?|application|calendar|inbox|emails?|meetings?|schedule"
)

_BODY = (
    r"appendix|bladder|bowels?|brain|collarbone|diaphragm|femur|gall ?bladder|heart|hip|intestines?|kidneys?|larynx"
    r"|liver|lungs?|ovar(?:y|ies)|pancreas|pelvis|prostate|spleen|sternum|stomach|thyroid|tonsils?|uterus"
)
_OF_ALL = (
    r"(?:roles?|rights?|dut(?:y|ies)|obligations?|responsibilit(?:y|ies)) (?:as|if|when|under)\b"
    rf"|(?:{_BODY})(?=\W*$|[?!.,;]| located\b)"
)
"""What is one's own in everybody's case: "my role as a juror", "my pancreas"."""

_OWN_WORDS = (
    # English
    rf"my (?:\w+ )?(?:{_THINGS})|who am i|my name is|remind me|how much do i owe|do i have any",
    rf"(?:what(?:'s| is)|when(?:'s| is)|where(?:'s| is| are)) my(?! (?:{_OF_ALL}))",
    # German
    r"meine[nmrs]? (?:bestellung|konto|kontostand|rechnung|buchung|termin|lieferung|paket|sendung|rezept|diagnose"
    r"|befund|gehalt|vertrag|antrag|kalender)",
    r"mein (?:konto|kontostand|termin|paket|rezept|befund|gehalt|vertrag|kalender)",
    r"ich heiße|wer bin ich",
    # French
    r"(?:ma|mon|mes) (?:commandes?|compte|solde|factures?|réservations?|rendez-vous|livraison|colis|ordonnance"
    r"|diagnostic|salaire|contrat)|je m['’]appelle|qui suis-je",
    # Spanish
    r"mis? (?:pedidos?|cuenta|saldo|facturas?|reservas?|citas?|envío|paquete|receta|diagnóstico|salario|contrato)"
    r"|me llamo|quién soy",
    # Italian
    r"(?:il mio|la mia|i miei|le mie) (?:ordin[ei]|conto|saldo|fattur[ae]|prenotazion[ei]|appuntament[oi]|spedizione"
    r"|pacco|ricetta|diagnosi|stipendio|contratto)|mi chiamo|chi sono io",
    # Portuguese
    r"(?:meu|minha|meus|minhas) (?:pedidos?|conta|saldo|faturas?|reservas?|consultas?|entrega|encomenda|receita"
    r"|diagnóstico|salário|contrato)|meu nome é|quem sou eu",
    # Dutch
    r"mijn (?:bestelling|rekening|saldo|factuur|boeking|afspraak|levering|pakket|recept|diagnose|salaris|contract)"
    r"|ik heet|wie ben ik",
    # Polish
    r"(?:moje|moja|mój|mojego|mojej) (?:zamówieni[ea]|konto|saldo|faktura|rezerwacja|przesyłka|paczka|recepta|pensja"
    r"|umowa)|nazywam się|kim jestem",
    # Russian
    r"(?:мой|моя|моё|мое|моего|моей) (?:заказ|заказа|сч[её]т|баланс|бронирование|посылка|рецепт|зарплата|договор)"
    r"|меня зовут|кто я",
)

_OWN_SIGNS = (
    r"我的(?:订单|訂單|账户|賬戶|余额|账单|预订|快递|包裹|工资)|我叫|我是谁"
    r"|私の(?:注文|口座|残高|請求|予約|荷物|給料)"
)

_HOW_TO = (
    r"how (?:do|can|could|should|would|might) (?:i|we|one|you)|how to|can i|could i|may i|is it possible|what happens"
    r"|where (?:do|can) i|wie (?:kann|soll|muss|mache?) ich|kann ich|comment|puis-je|cómo|puedo|come (?:posso|faccio)"
    r"|como (?:posso|faço)|hoe kan ik|kan ik|jak|как"
)

_CURRENCY = r"(?:usd|eur|gbp|jpy|chf|cny|inr|aud|cad|sek|nok|dkk|pln|brl|mxn|try|zar)"
_EXCHANGED = (
    r"(?:(?:convert|exchange|what(?:'s| is)|how much (?:is|are)) )?"
    rf"(?:\d[\d.,]{{0,15}} ?)?{_CURRENCY} ?(?:to|in|into|/) ?{_CURRENCY}"
)
"""A rate of exchange, where nothing else is asked: of more words it may be how to change money, or where."""

_CARD = (
    r"(?:4\d{3}|5[1-5]\d\d|2[2-7]\d\d|6011|65\d\d)(?:[ -]?\d{4}){3}|3[47]\d\d[ -]?\d{6}[ -]?\d{5}"  # Visa and others
)
_BANK_ACCOUNT = r"[a-z]{2}\d\d(?: ?[a-z\d]{4})?(?: ?\d{4}){2,6} ?[a-z\d]{1,4}"  # an IBAN

_NUMBERED = (
    r"(?:order|invoice|booking|ticket|case|claim|account|tracking|customer|bestellung|rechnung|commande|pedido)"
    r" (?:(?:no\.?|number|id|nr\.?|n°) ?#?|#)[a-z]{0,4}-?\d{4,}"
    rf"|{_CARD}|{_BANK_ACCOUNT}|[\w.+-]{{1,64}}@[\w-]{{1,64}}\.[a-z]{{2,}}"
)

_NOW = re.compile(rf"\b(?:{'|'.join(_NOW_WORDS)})\b|{_NOW_SIGNS}|^\W*{_EXCHANGED}\W*$")
_NEWEST = re.compile(r"(?<!\bkeep the )(?<!\bby )(?<!\bby the )(?<!\bthan the )\b(?:latest|newest|most recent)\b")
_OWN = re.compile(rf"\b(?:{'|'.join(_OWN_WORDS)})\b|{_OWN_SIGNS}")
_ASKS_HOW = re.compile(rf"^\W*(?:(?:hi|hello|hey|please|hallo|bonjour|hola|ciao)\W+)*(?:{_HOW_TO})\b")
_IDENTIFIED = re.compile(rf"\b(?:{_NUMBERED})\b")


def is_time_sensitive(question: str) -> bool:
    """Whether the words ask for what holds now: "today", "latest", "the current price".

    How the newest of one's own things are found or kept holds always: "How do I keep the newest row?"
    """
    text = _read(question)
    if _NOW.search(text):
        return True
    return _NEWEST.search(text) is not None and _ASKS_HOW.search(text) is None


def is_personal(question: str) -> bool:
    """Whether the words ask about the caller's own matters, or name them: "my order", "order 48213", an address.

    How something of one's own is done is nobody's own matter: "How do I close my account?"
    """
    text = _read(question)
    if _IDENTIFIED.search(text):
        return True
    return _OWN.search(text) is not None and _ASKS_HOW.search(text) is None


def _read(text: str) -> str:
    half = READ_CHARS_MAX // 2
    shown = text if len(text) <= READ_CHARS_MAX else f"{text[:half]}\n{text[-half:]}"
    return " ".join(shown.casefold().replace("’", "'").split())
