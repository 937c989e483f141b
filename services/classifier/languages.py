"""What other languages than English say for the same: German, French, Spanish, Portuguese, Italian, Chinese, Japanese,
Russian, Arabic and Hindi. Alternatives of regular expressions, in lower case, for `lexicon` to put together.

Promises: stems that begin no English word, so that they change nothing in English; no nested repetition. Stems are cut
where endings begin ("übersetz" finds übersetze, übersetzen, Übersetzung).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from spillway.routing import TaskType

__all__ = [
    "ASKING_WORDS",
    "CONSTRAINT_WORDS",
    "CONTINUING_WORDS",
    "DEEP_WORDS",
    "DIRECT_WORDS",
    "EASY_WORDS",
    "EXPERT_WORDS",
    "GREETING_WORDS",
    "HARD_WORDS",
    "PASTED_WORDS",
    "PROCESSING_WORDS",
    "TASK_WORDS_BY_TYPE",
]


def _joined(*languages: str) -> str:
    return "|".join(languages)


TASK_WORDS_BY_TYPE: Final[Mapping[TaskType, str]] = {
    TaskType.SUMMARIZATION: _joined(
        r"zusammenfass|fass(?:e|t)? .{1,60}zusammen|kurzfassung",
        r"résum|synthétise|en bref|l'essentiel de",
        r"resum[ei]|sintetiza|en pocas palabras",
        r"resuma|em poucas palavras",
        r"riassum|riassunto|sintetizza|in breve",
        r"总结|概括|摘要|归纳|總結|概述",
        r"要約|まとめ",
        r"кратко излож|резюмируй|перескаж|суммируй|вкратце",
        r"لخص|تلخيص|خلاصة|ملخص",
        r"सारांश|संक्षेप",
    ),
    TaskType.EXTRACTION: _joined(
        r"extrahier|entnimm|liste alle|such alle|finde alle|nenne alle .{1,40} im text",
        r"extrais|extraire|(?:relève|trouve) (?:les|tous|toutes)|liste (?:les|tous|toutes)",
        r"extra(?:e|er|iga)\b|saca (?:los|las|todos|todas)|enumera (?:los|las|todos|todas)",
        r"extrai|extraia|liste (?:os|as|todos|todas)",
        r"estrai|elenca (?:i|le|gli|tutti|tutte)",
        r"提取|抽取|找出|列出所有|列出文中",
        r"抽出|抜き出|取り出して|列挙",
        r"извлеки|извлечь|выпиши|найди все|перечисли все",
        r"استخرج|استخراج|اذكر جميع",
        r"निकाल|सूची बना",
    ),
    TaskType.CLASSIFICATION: _joined(
        r"klassifizier|ordne .{1,60}(?:zu|ein)\b|kategorisier|positiv oder negativ|stimmung|ist das spam",
        r"class(?:e|er|ifie|ez)\b|catégoris|positif ou négatif|sentiment de",
        r"clasific|categoriz|positiv[oa] o negativ[oa]|es spam",
        r"classifi(?:que|ca)|positiv[oa] ou negativ[oa]",
        r"classifica|categorizza|positiv[oa] o negativ[oa]",
        r"分类|归类|正面还是负面|情感|垃圾邮件|分類",
        r"分類|ポジティブ|ネガティブ|肯定的か|スパム",
        r"классифицир|определи категорию|тональност|положительн\w+ или отрицательн|спам",
        r"صنف|تصنيف|إيجابي أم سلبي|إيجابية أم سلبية",
        r"वर्गीकृत|वर्गीकरण|सकारात्मक या नकारात्मक",
    ),
    TaskType.REWRITING: _joined(
        r"korrigier|formulier|umschreib|schreib .{1,40}um\b|überarbeit|höflicher|freundlicher|verbesser|"
        r"rechtschreib|kürze",
        r"corrige|reformul|réécri|rends .{1,30} plus|améliore|orthographe|raccourci",
        r"corrige|reescrib|reformula|mejora (?:el|la|este|esta)|más (?:formal|cortés|amable)|ortografía",
        r"corrija|reescrev|melhore|mais (?:formal|educad|curt)|ortografia",
        r"correggi|riscriv|riformul|migliora|più (?:formale|cortese|gentile)|accorcia",
        r"改写|润色|修改|纠正|改成|改得|校对|語法",
        r"書き直|書き換え|添削|直して|言い換え|丁寧に|校正",
        r"исправь|перепиши|перефразир|отредактируй|сделай .{1,30}вежлив|сократи",
        r"صحح|أعد صياغة|اعد صياغة|أعد كتابة|حسن (?:النص|هذا)",
        r"सुधार|फिर से लिख|दोबारा लिख|विनम्र",
    ),
    TaskType.TRANSLATION: _joined(
        r"übersetz|(?:ins|auf|in) (?:deutsch|englisch|französisch|spanisch|italienisch|chinesisch|japanisch)",
        r"tradui|en (?:anglais|français|allemand|espagnol|italien|chinois|japonais)\b|comment dit-on",
        r"traduc|traduz|al (?:inglés|francés|alemán|español|italiano)|cómo se dice",
        r"traduz|para o (?:inglês|francês|alemão|espanhol|português)|como se diz",
        r"tradu(?:ci|rre|zione)|in (?:inglese|francese|tedesco|spagnolo)|come si dice",
        r"翻译|翻譯|译成|译为|用英语怎么说|怎么用英文",
        r"翻訳|英訳|和訳|英語で(?:何|なん|どう)|日本語に(?:して|訳)|訳して",
        r"перевед|перевод|по-английски|на английский|на русский|как будет",
        r"ترجم|الترجمة|إلى الإنجليزية|بالإنجليزية|إلى العربية",
        r"अनुवाद|अंग्रेज़ी में|अंग्रेजी में|हिंदी में (?:बदल|लिख)",
    ),
    TaskType.CODE: _joined(
        r"programmier|quelltext|skript|schleife|fehlermeldung|datenbankabfrage|sortieralgorithm",
        r"programme (?:qui|en)|fonction (?:qui|en|python)|boucle|requête sql|débogu|débugg",
        r"programa (?:que|en)|función (?:que|en)|bucle|consulta sql|depura|código",
        r"função (?:que|em)|laço|código|consulta sql",
        r"funzione (?:che|in)|questo ciclo|codice|interrogazione sql",
        r"代码|函数|编程|程序|脚本|算法|报错|代碼|程式|正则",
        r"コード|関数|プログラム|スクリプト|アルゴリズム|正規表現|バグ",
        r"функци[юя]|программ[уы]|скрипт|алгоритм|цикл|код[а-я]{0,3}\b|ошибк[ау] в коде|регулярн\w+ выражени",
        r"كود|برنامج|دالة|خوارزمية|برمج",
        r"कोड|फ़ंक्शन|फंक्शन|प्रोग्राम|एल्गोरिद्म|स्क्रिप्ट",
    ),
    TaskType.MATH: _joined(
        r"berechne|rechne|löse die gleichung|gleichung|wahrscheinlichkeit|ableitung|integriere|beweise|prozent|wurzel",
        r"calcule|résous|équation|probabilité|dérivée|intégrale|démontre|pour cent|racine carrée",
        r"calcula\b|resuelve|ecuación|probabilidad|derivada|demuestra|por ciento|raíz cuadrada|cuánto es",
        r"calcule|resolva|equação|probabilidade|derivada|demonstre|por cento|raiz quadrada|quanto é",
        r"calcola|risolvi|equazione|probabilità|derivata|dimostra|per cento|radice quadrata|quanto fa",
        r"计算|求解|方程|概率|导数|积分|证明|百分之|等于多少|平方根|加上|减去|除以",
        r"計算|方程式|確率|微分|積分|証明|パーセント|平方根|いくつですか|解いて|解け",
        r"вычисли|посчитай|реши уравнение|уравнени|вероятност|производн|интеграл|докажи|процент|корень из",
        r"احسب|كم يساوي|حل المعادلة|معادلة|احتمال|مشتقة|تكامل|أثبت|اثبت|برهن|بالمئة|الجذر",
        r"गणना|हल कर|समीकरण|प्रायिकता|अवकलज|समाकल|सिद्ध|प्रतिशत|वर्गमूल",
    ),
    TaskType.REASONING: _joined(
        r"vergleiche?\b|vor- und nachteile|soll(?:te)? ich|abwäg|bewerte|analysier|untersuch|begründe|strategie",
        r"compare[rz]?\b|avantages et|vaut-il mieux|inconvénients|devrais-je|analyse[rz]?\b|évalue|stratégie",
        r"compara\b|ventajas y|debería|analiza|evalúa|estrategia|desventajas",
        r"compare\b|vantagens e|devo\b|analise|avalie|estratégia",
        r"confronta|vantaggi e|svantaggi|dovrei|analizza|valuta\b|strategia",
        r"比较|对比|优缺点|利弊|应该(?:选|买|先)|分析|评估|策略|推理|推断",
        r"比較|長所と短所|メリット|べきですか|分析|評価|戦略|推論|検討",
        r"сравни|плюсы и минусы|стоит ли|что лучше|проанализируй|оцени|стратеги|преимуществ",
        r"قارن|مزايا|عيوب|هل يجب|حلل|تحليل|قيم\b|استراتيجية",
        r"तुलना|फायदे और|लाभ और|विश्लेषण|मूल्यांकन|रणनीति|क्या मुझे",
    ),
    TaskType.CREATIVE: _joined(
        r"gedicht|geschichte über|märchen|erfinde|denk dir|witz\b|reime?\b|schreibe? (?:ein|eine) (?:lied|kurz)",
        r"poème|histoire (?:sur|d'un|d'une|courte)|conte\b|invente|blague|slogan|chanson|imagine\b|propose-moi",
        r"poema|cuento|inventa|chiste|canción|eslogan|historia (?:sobre|de un)|rima\b",
        r"poema|conto\b|invente|piada|canção|história (?:sobre|de um)",
        r"poesia|racconto|storia (?:su|di un)|barzelletta|filastrocca|canzone|inventa",
        r"写(?:一)?首|诗|故事|笑话|口号|歌词|编一个|起个名|想一个|想个|想象|写一篇小说",
        r"詩|物語|俳句|短歌|冗談|ジョーク|歌詞|キャッチコピー|小説|創作",
        r"стих|сказк|рассказ (?:о|про)|придумай|шутк|слоган|анекдот|песн[юя]",
        r"قصيدة|قصة|اخترع|نكتة|شعار|أغنية",
        r"कविता|कहानी|चुटकुला|नारा|गीत",
    ),
    TaskType.FACTUAL_QA: _joined(
        r"was (?:ist|sind|bedeutet|heißt)|wer (?:war|ist|hat)|wann (?:wurde|war|ist)|wo liegt|seit wann|"
        r"wie (?:hoch|alt|viele)|hauptstadt|unterschied zwischen|warum (?:ist|sind|hat)|erkläre",
        r"qu'est-ce|quel(?:le)?s? (?:est|sont)|qui (?:a|est|était)|quand\b|où (?:est|se)|combien|pourquoi|"
        r"capitale|explique",
        r"qué (?:es|son|significa)|quién|cuándo|dónde|en qué año|cuántos|por qué|cuál es|explica\b",
        r"o que (?:é|são|significa)|quem (?:é|foi|escreveu)|quando|onde fica|quantos|por que|qual (?:é|a|o)|explique",
        r"(?:che )?cos'?è|chi (?:è|ha|era)|quando|in che anno|dov'?è|quanti\b|perché|qual è|spiega",
        r"什么是|是什么|是谁|什么时候|哪里|在哪|哪年|多少|为什么|首都|有多高|解释",
        r"とは|何ですか|誰ですか|いつ|どこ|首都|なぜ|どうして|違い|何年|高さ|長さ|広さ|教えて|説明",
        r"что такое|кто (?:такой|написал|был)|когда|где находится|сколько|почему|столица|объясни|в чём разница",
        r"ما (?:هو|هي|معنى)|من (?:هو|كتب|هي)|متى|أين|كم (?:عدد|يبلغ)|لماذا|عاصمة|اشرح",
        r"क्या (?:है|होता)|कौन|कब|कहाँ|कहां|कितन|क्यों|राजधानी|समझाइए|समझाओ",
    ),
    TaskType.CHITCHAT: _joined(
        r"wie geht|mir ist langweilig|erzähl mir von dir|schönen tag",
        r"comment (?:ça va|vas-tu|allez-vous)|je m'ennuie|bonne journée",
        r"cómo (?:estás|está usted|te va)|me aburro|buen día",
        r"como (?:vai|você está)|estou entediad|bom dia",
        r"come (?:stai|va)|mi annoio|buona giornata",
        r"你好吗|你怎么样|我很无聊|聊聊|心情|早上好|晚安",
        r"お元気|元気ですか|暇です|雑談|おはよう|おやすみ",
        r"как (?:дела|ты|жизнь)|мне скучно|поболтаем|доброе утро",
        r"كيف (?:حالك|الحال)|صباح الخير|أشعر بالملل",
        r"आप कैसे|कैसे हो|क्या हाल|ऊब|शुभ",
    ),
    TaskType.OTHER: _joined(
        r"erinnere mich|stell (?:einen|den) (?:wecker|timer)|schalte",
        r"rappelle-moi|mets (?:un|le) (?:réveil|minuteur)|allume|éteins",
        r"recuérdame|pon (?:una|la) alarma|enciende|apaga",
        r"lembre-me|ligue (?:a|o)|desligue",
        r"ricordami|imposta (?:una|la) sveglia|accendi|spegni",
        r"提醒我|打开|关掉|设置闹钟|设个闹钟",
        r"リマインド|アラーム|をつけて|を消して|予約して",
        r"напомни мне|поставь будильник|включи|выключи",
        r"ذكرني|اضبط المنبه|شغل|أطفئ",
        r"याद दिला|अलार्म|चालू कर|बंद कर",
    ),
}
DEEP_WORDS: Final = _joined(
    r"beweis|leite .{1,60} her\b|entwirf|entwickle|implementier|refaktor|optimier|analysier|bewerte|vergleiche?\b|"
    r"begründe|untersuch|abwäg|strategie|kritisch|quantifizier",
    r"démontre|prouve|conçois|concevoir|implémente|optimise|analyse[rz]?\b|évalue|compare[rz]?\b|justifie|critique",
    r"demuestra|diseña|implementa|optimiza|analiza|evalúa|compara\b|justifica|críticamente|argumenta\b",
    r"demonstre|prove que|projete|implemente|otimize|analise|avalie|compare\b|justifique|criticamente",
    r"dimostra|progetta|implementa|ottimizza|analizza|valuta\b|confronta|giustifica|criticamente",
    r"证明|推导|设计|实现|重构|优化|分析|评估|比较|论证|权衡|推断",
    r"証明|導出|設計|実装|最適化|分析|評価|比較|論じ|考察|検討",
    r"докажи|выведи|спроектируй|разработай|реализуй|оптимизируй|проанализируй|оцени|сравни|обоснуй",
    r"أثبت|اثبت|برهن|صمم|نفذ|حلل|قارن|قيم\b|ناقش|علل",
    r"सिद्ध|प्रमाणित|डिज़ाइन|डिजाइन|लागू कर|विश्लेषण|तुलना|मूल्यांकन|आलोचनात्मक",
)
HARD_WORDS: Final = _joined(
    r"ausführlich|detailliert|gründlich|umfassend|schritt für schritt|komplex",
    r"en détail|approfondi|exhausti[fv]|étape par étape|rigoureu",
    r"detallad|a fondo|exhaustiv|paso a paso|riguros|complej",
    r"detalhad|a fundo|exaustiv|passo a passo|rigoros",
    r"dettagliat|approfondit|esaustiv|passo (?:per|dopo) passo|rigoros",
    r"详细|深入|全面|严格|一步一步|逐步|复杂",
    r"詳しく|詳細|徹底的|厳密|段階的|複雑",
    r"подробно|детально|исчерпывающ|пошагово|шаг за шагом|строго",
    r"بالتفصيل|مفصل|شامل|خطوة بخطوة|بعمق|معقد",
    r"विस्तार|विस्तृत|गहराई|चरण दर चरण|जटिल",
)
EASY_WORDS: Final = _joined(
    r"kurz|einfach|in einem (?:satz|wort)|nur (?:die|das|der|ein)|ja oder nein",
    r"brièvement|en une phrase|en un mot|juste|oui ou non",
    r"brevemente|en una (?:frase|palabra)|sí o no|rápid",
    r"em uma (?:frase|palavra)|apenas|sim ou não|rapidamente",
    r"in una (?:frase|parola)|sì o no|brevemente|soltanto",
    r"一句话|简单|简短|是或否|是不是|只要",
    r"一言で|簡単に|短く|一文で|はいかいいえ",
    r"кратко|в двух словах|одним (?:словом|предложением)|просто\b|да или нет",
    r"باختصار|في جملة|بكلمة|نعم أم لا|نعم أو لا",
    r"संक्षेप में|एक वाक्य|एक शब्द|हाँ या नहीं|सरल",
)
EXPERT_WORDS: Final = _joined(
    r"satz von|stochasti|verteilt\w+ system|nebenläuf|verfassungs|haftung|rechtsprech|quanten|differentialgleich",
    r"théorème|stochasti|système distribué|concurren|jurisprud|responsabilité civile|quantique",
    r"teorema|estocásti|sistema distribuido|concurren|jurisprud|responsabilidad civil|cuántic",
    r"sistema distribuído|estocásti|quântic|responsabilidade civil",
    r"sistema distribuito|stocasti|quantistic|giurisprud|responsabilità civile",
    r"定理|分布式|并发|量子|微分方程|算法复杂度|判例|法律责任|随机过程|博弈",
    r"分散システム|並行|量子|微分方程式|判例|法的責任|確率過程|ゲーム理論",
    r"теорем|распределённ|распределенн|параллельн|квантов|дифференциальн|судебн\w+ практик|случайн\w+ процесс",
    r"نظرية|مبرهنة|الأنظمة الموزعة|كمومي|كمي\b|معادلة تفاضلية|المسؤولية القانونية",
    r"प्रमेय|वितरित प्रणाली|क्वांटम|अवकल समीकरण|न्यायशास्त्र",
)
CONSTRAINT_WORDS: Final = _joined(
    r"mindestens|höchstens|ohne\b|genau \d|nicht mehr als|unter \d+ (?:wörter|zeichen)|muss\b|müssen",
    r"au moins|au plus|sans\b|exactement|pas plus de|en gardant|doit\b",
    r"al menos|como máximo|sin \w+r\b|exactamente|no más de|manteniendo|debe\b",
    r"pelo menos|no máximo|sem \w+r\b|exatamente|não mais de",
    r"almeno|al massimo|senza\b|esattamente|non più di",
    r"必须|至少|最多|不超过|不要|不能|恰好|保持",
    r"必ず|少なくとも|以内|以上|使わず|ちょうど|ただし",
    r"не менее|не более|не больше|без\b|ровно|должн|обязательно",
    r"يجب أن|على الأقل|على الأكثر|دون\b|بدون|بالضبط",
    r"कम से कम|अधिक से अधिक|के बिना|ज़रूर|केवल",
)
# The beginning of a short question that asks for a fact.
DIRECT_WORDS: Final = _joined(
    r"wie (?:heißt|viele|hoch|alt|groß|spät|lautet)|was ist|wer|wann|wo|welche[rsn]?",
    r"qui|que|quel(?:le)?s?|combien|où|quand|qu'est-ce que|est-ce que",
    r"cuál|cuánt[oa]s?|quién|qué|dónde|cuándo",
    r"quem|qual|quantos|onde|quando|o que é",
    r"chi|qual|quale|quanti|quanto|dove|dov|quando|cos|che cos",
    r"кто|что|где|когда|сколько|какой|какая|какое|какие|как называется",
    r"ما|من|متى|أين|كم|هل",
    r"क्या|कौन|कब|कहाँ|कहां|कितने|कितना",
)
GREETING_WORDS: Final = _joined(
    r"moin|servus|grüß gott|hallöchen|tschüss?|auf wiedersehen|vielen dank|danke schön|super",
    r"coucou|bonsoir|au revoir|merci beaucoup|à bientôt|parfait",
    r"muchas gracias|buenas|hasta luego|perfecto|vale",
    r"oi|bom dia|boa tarde|boa noite|muito obrigad[oa]|tchau",
    r"buongiorno|buonasera|salve|arrivederci|grazie mille|perfetto",
    r"您好|嗨|早上好|晚上好|晚安|谢谢你|谢谢您|多谢|再见|好的|你好吗|在吗",
    r"おはよう(?:ございます)?|こんばんは|やあ|ありがとうございます|どうも|さようなら|またね|了解です?",
    r"здравствуйте|здравствуй|приветик|добрый (?:день|вечер)|доброе утро|большое спасибо|пока|до свидания|хорошо|"
    r"как дела",
    r"السلام عليكم|أهلا|اهلا|صباح الخير|مساء الخير|شكرا|شكرًا|شكراً(?: جزيلا)?|مع السلامة|كيف حالك",
    r"नमस्कार|धन्यवाद|शुक्रिया|अलविदा|ठीक है|आप कैसे हैं|कैसे हो",
)
# A short turn that begins so goes on with what was said before.
CONTINUING_WORDS: Final = _joined(
    r"und\b|aber\b|warum|wieso|weiter|mach weiter|jetzt\b|dasselbe|noch mal|nochmal|kürzer",
    r"et\b|mais\b|pourquoi|continue|maintenant|la même|encore|plus court",
    r"y\b|pero\b|por qué|sigue|continúa|ahora\b|lo mismo|más corto",
    r"e\b|mas\b|por quê|continue|agora\b|o mesmo|mais curto",
    r"ma\b|perché|continua|adesso|ora\b|lo stesso|più corto",
    r"那|为什么|继续|再|还有|接着|同样|然后",
    r"では|じゃあ|なぜ|どうして|続けて|もっと|それで|他には",
    r"а\b|и\b|но\b|почему|зачем|продолжай|дальше|ещё|теперь|то же",
    r"و|لماذا|أكمل|تابع|والآن|المزيد|نفس",
    r"और\b|क्यों|जारी|अब\b|आगे|वही",
)
PROCESSING_WORDS: Final = _joined(
    r"fass|formulier|extrahier|klassifizier|ordne|liste|kürze|verbesser",
    r"résum|extrais|classe\b|classez|corrige|reformul|réécri|liste",
    r"resum|extrae|clasific|corrige|reescrib|traduce",
    r"extraia|extrai|classifi|corrija|reescrev|traduz",
    r"riassum|estrai|classific|correggi|riscriv|tradu",
    r"提取|抽取|分类|改写|润色|概括|摘要|修改|纠正|把",
    r"要約|抽出|分類|次の|書き直|添削|以下",
    r"перевед|исправь|извлеки|классифицир|перескаж|сократи|перепиши|резюмируй",
    r"ترجم|لخص|استخرج|صنف|صحح|أعد",
    r"अनुवाद|सारांश|निकाल|वर्गीकृत|सुधार|निम्न",
)
ASKING_WORDS: Final = _joined(
    r"bitte|erkläre|fass|liste|nenne|welche|warum|wie\b|was\b|wer\b",
    r"s'il (?:te|vous)|explique|résum|liste|quel|pourquoi|comment",
    r"por favor|explica|resum|qué|cuál|quién|por qué",
    r"explique|liste|qual|quem|por que",
    r"per favore|spiega|riassum|elenca|quale|perché",
    r"请|問|问|告诉|总结|翻译|为什么|什么|哪|谁|吗",
    r"ください|下さい|教えて|要約|なぜ|何|誰|ですか|ますか",
    r"пожалуйста|объясни|перескаж|найди|кто|что|почему|сколько|какой",
    r"من فضلك|رجاء|اشرح|لخص|ما هو|ما هي|لماذا|هل",
    r"कृपया|बताइए|बताओ|समझाइए|क्या|कौन|क्यों",
)
PASTED_WORDS: Final = _joined(
    r"hier ist|folgende[rsn]?|der text|unten|anbei|diese[rsnm]? (?:text|mail|artikel|brief)",
    r"voici|ci-dessous|ce (?:texte|mail|message)|cet article|le texte suivant",
    r"aquí (?:está|tienes)|a continuación|el siguiente|este (?:texto|correo|artículo)",
    r"aqui está|a seguir|o seguinte|este (?:texto|artigo)",
    r"ecco|qui sotto|il seguente|questo (?:testo|articolo|messaggio)",
    r"以下|下面|如下|这(?:篇|段|封)",
    r"以下|次の|この(?:文章|記事|メール)",
    r"вот|ниже|следующ|эт(?:от|а|о) (?:текст|письмо|статья)",
    r"فيما يلي|هذا النص|النص التالي|هذه الرسالة",
    r"यह रहा|निम्नलिखित|इस (?:पाठ|लेख|मेल)",
)
