"""The words of the shop world: what customers ask, what policies say. It knows text, no plans and no tools.

Alternatives are written ``{a|b|c}``, nested as needed. `phrase` draws one expansion; every eighth expansion, by hash, is
held out: training never draws it, evaluation draws nothing else.
"""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import dataclass

_INNERMOST = re.compile(r"\{([^{}]*)\}")

ITEMS: tuple[str, ...] = tuple(
    ["lamp", "desk lamp", "floor lamp", "mug", "coffee mug", "chair", "office chair", "backpack", "school backpack", "kettle", "electric kettle", "clock", "wall clock", "shirt", "running shoe", "shoe", "umbrella", "bottle", "water bottle", "headphones", "keyboard", "blender", "toaster", "pillow", "blanket", "towel", "frying pan", "knife set", "notebook", "fountain pen", "phone case", "charger", "speaker", "camera", "tripod", "tent", "sleeping bag", "jacket", "scarf", "hat", "belt", "watch", "necklace", "puzzle", "board game", "toy car", "doll", "bike helmet", "bike lock", "yoga mat", "dumbbell", "vase", "candle", "mirror", "rug", "curtain", "shelf", "desk", "cushion", "coat rack", "bowl", "plate set", "teapot", "garden hose", "drill", "hammer", "bread knife", "baby monitor", "night light", "sun hat", "rain coat", "hand cream", "picture frame", "door mat", "soap dish", "wine glass", "bath robe", "travel bag", "guitar stand", "music box", "dog leash"]
)
_SYLLABLES = ["ba", "be", "bi", "bo", "da", "de", "do", "ka", "ke", "ki", "ko", "la", "le", "li", "lo", "ma", "mi", "mo", "na", "ne", "no", "pa", "pe", "po", "ra", "ri", "ro", "sa", "se", "so", "ta", "te", "ti", "to", "va", "ve", "vi", "za", "zo"]

SHOPS = tuple(
    ["Brightside Store", "North & Co", "Home Corner", "Lantern Lane", "Oak and Iron", "The Daily Goods", "Pepper Street", "Blue Harbor", "Maple House", "City Outfitters", "Greenleaf Market", "Harbor Home", "Sunny Side Shop", "Corner Stone", "Little River", "Red Door Goods"]
)
CITIES = tuple(
    ["Hamburg", "Lyon", "Porto", "Leeds", "Bergen", "Turin", "Graz", "Ghent", "Krakow", "Malmo", "Cork", "Basel", "Bilbao", "Tartu", "Aarhus", "Brno"]
)
CARRIERS = tuple(["Swift Parcel", "Nordpost", "Rapid Box", "Blue Arrow", "Courier One", "Parcel Fox", "Express Line", "Postal Hub"])


@dataclass(frozen=True)
class Topic:
    """A subject that a shop's policies may have a section on."""

    document: str
    headings: str
    says: str
    """Alternatives of the sentence that answers; ``#`` is a number, ``@`` an item, ``%`` a price, ``~`` a city."""
    asked: str
    """Alternatives of the question."""
    numbers: tuple[int, ...] = (2, 3, 5, 7, 10, 14, 20, 21, 25, 28, 30, 40, 45, 60, 90, 100)


RETURN_WINDOW = Topic(
    "Returns",
    "{Return window|Returns|Return period|Sending goods back|How long you can return}",
    "{You can {return|send back} {any product|your products|all goods|items} within # days {of|after} delivery."
    "|{Products|Goods|Items} can be {returned|sent back} {within|up to} # days after {delivery|they were delivered}."
    "|We take {goods|products} back for # days after delivery.|The return {period|window} is # days {from|after} {the day of |}delivery."
    "|You have # days from delivery to {return|send back} a product.|Returns are accepted {up to|within|for} # days after delivery.}",
    "{How long can I {return|send back} {things|a product|something|goods}|What is {your|the} return {policy|window|period}"
    "|How many days do I have to return {something|a product}|Until when can {I|we} {return|bring back} {products|goods}|Do you accept returns}?",
    (7, 8, 10, 14, 15, 20, 21, 25, 28, 30, 35, 40, 45, 50, 60, 75, 90, 100),
)
EXCEPTIONS = Topic(
    "Returns",
    "{Exceptions|What cannot be returned|Not returnable|Excluded from returns}",
    "{These products cannot be returned: @ and @.|We do not take back these products: @, @.|Excluded from returns: @ and @."
    "|The return of @ and @ is not possible.}",
    "{Which {products|goods|things} {cannot|can not|can't} be returned|What can I not {return|send back}|Are there exceptions to the return policy}?",
)

TOPICS: tuple[Topic, ...] = (
    Topic("Refunds", "{Refunds|Refund time|Getting your money back}",
          "{Refunds are paid within # days|We pay your money back within # days after the goods arrived|A refund takes up to # days|The money is on your account after # days}.",
          "{How long {does|will} {a|the|my} refund take|When {do|will} I get my money back|When will {you|the shop} refund me|How fast are refunds}?"),
    Topic("Refunds", "{Refund method|How refunds are paid}",
          "{Refunds go to the {card|account} that was used for the {payment|order}|We refund to the way you paid, or by {voucher|bank transfer}}.",
          "{How {is|will} the refund {be |}paid|Where does my refund go|In which way do you refund}?"),
    Topic("Shipping", "{Shipping cost|Shipping fees|Postage}",
          "{Shipping costs %|We charge % for shipping|The postage is % {per|for each} {order|parcel}|Each parcel costs %}.",
          "{How much is {shipping|the shipping|postage|delivery}|What does {shipping|delivery} cost|What are {the|your} shipping {costs|fees}|Do I {pay|have to pay} for shipping}?"),
    Topic("Shipping", "{Free shipping|Shipping for free}",
          "{Shipping is free {above|from|over} %|Orders {above|over|from} % are shipped for free|We ship free of charge from % on}.",
          "{When is shipping free|Do you {offer|have} free shipping|From which {amount|price} is {shipping|delivery} free|How do I get free {shipping|delivery}}?"),
    Topic("Shipping", "{Delivery time|How long delivery takes}",
          "{Delivery takes # {working |}days|Parcels arrive within # {working |}days|Your order is with you after # days}.",
          "{How long does {delivery|shipping} {take|usually take}|How {fast|quickly} do you {deliver|ship}|How many days {does|will} a delivery take}?"),
    Topic("Shipping", "{Delivery abroad|International shipping|Other countries}",
          "{We ship to # countries{ in Europe|}|We deliver abroad for % {more|extra}|Delivery to other countries takes # days|We do not ship abroad}.",
          "{Do you {ship|deliver|send} {abroad|to other countries|internationally}|Can you {ship|send it} to {another country|France|Norway|Spain}|Is {international shipping|delivery abroad} possible}?"),
    Topic("Shipping", "{Express delivery|Fast delivery}",
          "{Express delivery costs %|With express, parcels arrive {the next day|within # days} for %|Express is % {extra|more}}.",
          "{Do you {have|offer} express {delivery|shipping}|How much is {express|fast delivery|next day delivery}|Can I get it {faster|by express}}?"),
    Topic("Shipping", "{Pick-up|Collect in store|Store pick-up}",
          "{You can {pick up|collect} orders {in|at} our {shop|store} in ~|Orders can be collected in ~ after # days|Pick-up in ~ is free}.",
          "{Can I {pick up|collect} {my order|it|an order} {in the store|in your shop|myself}|Where can I {collect|pick up} {my order|an order}|Do you {offer|have} store pick-up}?"),
    Topic("Warranty", "{Warranty|Guarantee|How long products are covered}",
          "{All products have a warranty of # {months|years}|The {warranty|guarantee} is # {months|years}|We give a guarantee of # {months|years} on {all products|everything}}.",
          "{How long is the {warranty|guarantee}|Do {the|your} products {have|come with} a {warranty|guarantee}|What {warranty|guarantee} do {I get|you give}|Is there a {warranty|guarantee}}?"),
    Topic("Warranty", "{Repairs|Repair service}",
          "{A repair takes {about|up to} # days|Repairs cost {at least|about|from} %|We repair {products|goods} in ~ within # days}.",
          "{How long does a repair take|Do you {repair|fix} {broken |}{products|things|goods}|Can {it|this|my product} be repaired|What does a repair cost}?"),
    Topic("Warranty", "{Damaged goods|Broken on arrival|Transport damage}",
          "{Report {damage|broken goods} within # days{ and send a photo|}|Damaged goods are replaced {for free |}within # days|Tell us about damage within # days}.",
          "{What {if|do I do if|happens if} {my|the} {parcel|product|order} {is|arrives} {damaged|broken}|{My|The} {parcel|product} {arrived|came} {damaged|broken}, what now|How do I report {damage|a damaged product}}?"),
    Topic("Payment", "{Payment|Ways to pay|Payment methods}",
          "{You can pay by card, {invoice|transfer} or {voucher|cash}|We take {cards|all cards}, {invoice|bank transfer} and {vouchers|gift cards}|Payment is possible by {card|transfer} {or|and} {invoice|voucher}}.",
          "{How can I pay|Which {payment methods|cards} do you {accept|take}|Can I pay by {card|invoice|transfer|cash}|What payment {methods|options} {are there|do you have}}?"),
    Topic("Payment", "{Instalments|Paying in parts}",
          "{You can pay in # {monthly |}{parts|instalments} from %|Orders {above|over} % can be paid in # {parts|instalments}}.",
          "{Can I pay in {instalments|parts|rates}|Do you {offer|have} instalments|Is it possible to pay {monthly|in parts}}?"),
    Topic("Payment", "{Gift cards|Vouchers}",
          "{Gift cards are valid for # {years|months}|A {gift card|voucher} can be used for # {months|years}|Gift cards start at % and never expire}.",
          "{How long {is|are} {a gift card|gift cards|a voucher} valid|Do {gift cards|vouchers} expire|Do you {sell|have} {gift cards|vouchers}|What about gift cards}?"),
    Topic("Payment", "{Invoice|Getting an invoice}",
          "{You get {the|your} invoice by {e-mail|post} {within|after} # days|The invoice is {in the parcel|sent by e-mail}}.",
          "{{Can|Could|How do} I get an invoice|Where is {my|the} invoice|Do you send invoices|When do I get {my|the} invoice}?"),
    Topic("Contact", "{Opening hours|When we are open|Hours}",
          "{We are open {from Monday to Friday|every day|Monday to Saturday}, {8|9|10} to {17|18|19|20}|Our {shop|store} is open from {8|9|10} to {16|18|20}{ on weekdays|}}.",
          "{When are you open|What are {your|the} opening hours|Are you open {on Saturday|on Sunday|today|tomorrow|now}|When {do|does} {you|the shop} {open|close}|How late are you open}?"),
    Topic("Contact", "{Phone|Talk to us|Hotline|Customer service}",
          "{You reach {us|our team} {by phone |}at 0### ####|Call us at 0### ####{ on weekdays|}|Our number is 0### ####}.",
          "{Can I {talk|speak} to {a human|someone|a person|an agent}|What is your phone number|How can I {reach|call|contact} you|I want to {talk|speak} to {a human|someone|a person}|Do you have a hotline}{?|}"),
    Topic("Contact", "{Shop address|Where we are|Our store}",
          "{{Our|The} {shop|store} is {in|at} ~, {Market|Station|Mill|Garden|Church} Street #|You find us in ~, {Harbor|King|Park} Street #}.",
          "{Where {are you|is your shop|is your store|can I find you}|What is your address|In which {city|town} {are you|is the shop}|Do you have a {shop|store} {in town|I can visit|near me}}?"),
    Topic("Exchange", "{Exchange|Another size or colour}",
          "{You can exchange {a product|goods} within # days|An exchange is {free|possible} {within|for} # days|We exchange sizes and colours for # days}.",
          "{Can I {exchange|swap} {it|this|a product|my order}{ for another {size|colour}|}|How does an exchange work|Do you {exchange|swap} {products|goods|sizes}|I need another {size|colour}, what can I do}?"),
    Topic("Prices", "{Price match|Best price}",
          "{We match {lower prices|any price} {within|for} # days|If you find a lower price within # days, we pay {you |}the difference}.",
          "{Do you {match|beat} {prices|other prices|lower prices}|What if I find {it|this} cheaper {elsewhere|in another shop}|{Is there|Do you have} a price {match|guarantee}}?"),
    Topic("Prices", "{Student discount|Discounts for students}",
          "{Students get # percent off|There is a discount of # percent for students|With a student card everything is # percent cheaper}.",
          "{Do you {have|offer} a student discount|Is there a discount for students|Do students {get|pay} {less|a discount}|How much is the student discount}?"),
    Topic("Prices", "{Bonus points|Loyalty card|Members}",
          "{Members {get|collect} # points for {every|each} order|# points are worth %|Points expire after # months}.",
          "{How do {bonus |}points work|Do you have a loyalty {card|program}|How many points do I get|When do {my |}points expire}?"),
    Topic("Prices", "{Newsletter|News by e-mail}",
          "{The newsletter {comes|is sent} every # {days|weeks}|Newsletter readers get a voucher of %|You can leave the newsletter at any time}.",
          "{{Is there|Do you have} a newsletter|How do I {subscribe to|leave|unsubscribe from} the newsletter|How often {does|is} the newsletter {come|sent}}?"),
    Topic("Orders", "{Cancelling an order|Cancellation}",
          "{You can cancel {an order|orders} within # {hours|days}|Orders can be cancelled {until they are shipped|for # hours}|Cancelling is free {within|for} # {hours|days}}.",
          "{{Can|Could|How do} I cancel {my order|an order|it}|Is it possible to cancel {my|an} order|Until when can I cancel|I want to cancel my order}{?|}"),
    Topic("Orders", "{Changing the address|Another address}",
          "{The address can be changed {until the parcel is packed|within # hours}|We change the address {for free|for %} before shipping}.",
          "{{Can|Could|How do} I change {the|my} {delivery |}address|I {moved|gave the wrong address}, what now|Is it possible to {change|correct} the address}?"),
    Topic("Orders", "{Gift wrapping|Presents}",
          "{Gift wrapping costs %|We wrap {presents|gifts} for %|We wrap up to # {gifts|presents} for free}.",
          "{Do you {offer|have} gift wrapping|Can you wrap {it|this} as a {gift|present}|How much is gift wrapping|{It|This} is a {gift|present}, can you wrap it}?"),
    Topic("Service", "{Assembly|Setting up}",
          "{We {assemble|set up} furniture for %|Assembly takes # {days|hours} and costs %|Our team sets everything up for %}.",
          "{Do you {assemble|set up|build up} {furniture|things|it}|How much is assembly|Can {you|someone} {assemble|set up} {it|this|the furniture}{ for me|}}?"),
    Topic("Service", "{Old devices|Recycling|Take-back of old goods}",
          "{We take back # old {devices|goods} for free|Old devices {are|can be} taken back for %|Bring old {goods|devices} to our shop in ~}.",
          "{Do you take {old|used} {devices|goods|things}{ back|}|{Can|Do} you recycle {old|my old} {devices|things|batteries}|What about {my|the} old device|Where can I {recycle|leave} {old|used} {devices|goods}}?"),
)  # fmt: skip

FILLERS = (
    "{Please keep {the|your} receipt|Ask our team for help|We are happy to help|This holds for all customers|Some goods are different"
    "|Please tell us {early|in time}|See the notes on our {site|page}|This rule is {new|the same for all}|Write to us with questions"
    "|The goods must be unused|The box must be closed|We thank you for your trust|Our team answers {fast|gladly}}."
)

OBJECT = "{the <item>|my <item>|this <item>|this|it|the <item> I bought|that <item>}"
NAMED_OBJECT = "{the <item>|my <item>|this <item>|the <item> I bought|that <item>}"
ASK_RETURN = (
    "{{Can|Could|May} I {still |}{return|send back|give back|bring back} <object>{ now|}?|Is it {still |}possible to {return|send back|give back} <object>?"
    "|Is it too late to {return|send back|bring back} <object>?|I {want|would like|'d like|need} to {return|send back|give back} <object>.|Am I {still |}in time to {return|send back} <object>?"
    "|I {do not|don't} {like|want|need} <object>. {Can|May|Could} I {return|send back|give back} it?|How many days {are left|do I have left} to {return|send back} <object>?"
    "|{Could|Can} you check {if|whether} <object> can be {returned|sent back}?|I changed my mind about <object>. Can {it|this} {go back|be returned}?"
    "|Will you {still |}take <object> back?|{Can|Could} <object> {still |}be {returned|sent back}?|Do I {still |}have time to {return|send back|bring back} <object>?}"
)
ASK_STATUS = (
    "{Where is {my|the} {order|parcel|package|delivery}{ now|}?|When {will|does} {my|the} {order|parcel|package|delivery} {arrive|come|get here}?"
    "|{What is|What's} the status of {my|the|this} {order|delivery|parcel}?|Has {my|the} {order|parcel|package} been {shipped|sent|delivered}?|Is {my|the} {package|parcel|order} on its way?"
    "|{Track|Please track|Can you track} {my|this|the} {parcel|package|order}{ please|}.|When do I get {my|the} <item>?|Did {my|the} {parcel|order|<item>} arrive{ yet|}?"
    "|How long until {my|the} {parcel|order|<item>} {arrives|is here}?|I am {still |}waiting for {my|the} {order|parcel|<item>}.|What happened to {my|the} {order|parcel|package}?}"
)
ASK_LOOK = (
    "{What is this?|What's this?|What do you see{ here|}?|{Can|Could} you help me with this?|Please {have a look|look} at this{ picture|}.|Any idea what this is?|Here is a {picture|photo}.|{See|Look at} {this|the} {picture|photo}."
    "|What can you {say|tell me} about this?|What about this{ one|}?|{Please check|Check} this{ for me|}.|Do you know what this is?|I {got|have} this. What is it?}"
)
ASK_PRICE = "{How much {is|was} {this|it|that}?|What {does|did} {this|it|that} cost?|What is the price{ of this|}?|{Tell me|What's} the price{ please|}.|How expensive is {this|it}?|What is the price here?}"
ASK_STOCK = (
    "{Do you {have|sell} {a|an|the|this} <item>?|Is {a|an|the} <item> in stock?|How much is {a|the} <item>?|What does {a|the} <item> cost?|I am looking for {a|an} <item>.|{Can|Could} I buy {a|an} <item>{ here|}?"
    "|What is the price of {a|the} <item>?|How many <item>s do you have?|Do you still have {a|the} <item>?}"
)
ASK_CALCULATE = "{What is|What's|How much is|Calculate|Compute|Please calculate} <sum>{?|}"
ASK_TODAY = "{What day is {it|today}|What is {the date|today's date|the date today}|{Which|What} date {is it|do we have}|What's the date{ today|}|{Tell me|Say} {today's date|the date}}{?|}"
GREETING = "{Hello|Hi|Hey|Good {morning|evening|afternoon|day}|Hi there|Hello there|Greetings}{!|.|}"
THANKS = "{Thanks|Thank you|Thanks a lot|Many thanks|Great, thanks|Perfect, thank you|OK, thanks|Thank you very much|That helps, thanks}{!|.|}"
GOODBYE = "{Bye|Goodbye|See you|Good bye|Bye bye|That's all, bye|See you {later|soon}}{!|.|}"
ABOUT_YOU = "{{Who|What} are you|What can you do{ for me|}|How can you help{ me|}|What do you do|Are you a {robot|bot|human|person}|What are you for|Can you help me}?"
ELSEWHERE = (
    "{What is the capital of {France|Peru|Japan|Kenya|Canada|Spain|India|Chile}?|Who {won|invented|wrote|painted|discovered} {the world cup|the telephone|Hamlet|the Mona Lisa|penicillin|the radio}?"
    "|{Write|Tell} me {a poem|a joke|a story|a song} about {cats|the sea|love|winter|dogs|space|rain}.|{How is|What is|What's} the weather {today|tomorrow|in Rome|in Paris|like}?"
    "|{How do I|Can you|Please} {cook|bake|make} {pasta|bread|soup|a cake|rice|pancakes}?|{Translate|Say} {hello|good morning|thank you|this} {to|in} {German|Spanish|Chinese|French}."
    "|What {should|can} I {cook|eat|wear|read} {today|tonight|tomorrow}?|Who is the {president|king|prime minister|mayor} of {France|Spain|Italy|London|Berlin}?"
    "|{Write|Fix|Explain} {some|my|this} {code|Python code|program|essay}.|How {old|tall|big|far} is the {sun|moon|Eiffel tower|universe|earth}?|{Book|Find} me a {flight|hotel|table|doctor|train} {to Rome|in Paris|for tonight|for tomorrow}."
    "|What do you think {about|of} {politics|football|the election|religion|art}?|I {have|feel} {a headache|sick|a cold|tired}. What {helps|should I do}?|{Play|Sing} {a song|some music|jazz} for me.|What is {the meaning of life|love|gravity|quantum physics|a black hole}?"
    "|Which {stocks|shares|lottery numbers} should I {buy|pick|choose}?|Who {is|was} {Einstein|Napoleon|Mozart|Cleopatra|Newton}?}"
)
HAVE_ORDER = "{ My order {number |}is <id>.| Order <id>.| The order {number |}is <id>.| (order <id>)| It is order <id>.| Order number: <id>.| My number is <id>.}"
HAVE_TRACKING = "{ The tracking number is <id>.| My tracking number is <id>.| Tracking <id>.| (tracking <id>)| The parcel number is <id>.| Tracking number: <id>.}"
GIVE_ORDER = "{It is <id>.|<id>|My order {number |}is <id>.|The {order |}number is <id>.|Order <id>.|Sure, <id>.|Here {it is|you go}: <id>|Of course, it is <id>.}"
GIVE_PICTURE = "{Here is the {receipt|picture|photo}.|Here {it is|you go}.|I have a {picture|photo}.|Sure, see the {picture|photo}.|Look at this.|}"
OPENING = "{Hello, |Hi, |Hi! |Hello. |Good morning, |Hey, |Please help: |One question: |}"
CLOSING = "{ Thanks.| Thank you!| Please help.| Thanks!|}"


def expand(rng: random.Random, template: str) -> str:
    """One expansion of ``template``, at random."""
    while (match := _INNERMOST.search(template)) is not None:
        choice = rng.choice(match.group(1).split("|"))
        template = template[: match.start()] + choice + template[match.end() :]
    return template


def is_held_out(text: str) -> bool:
    """Whether training must not see this expansion."""
    return zlib.crc32(text.encode()) % 8 == 0


def phrase(rng: random.Random, template: str, held_out: bool) -> str:
    """An expansion on the wanted side of the split, or any where 400 draws find none."""
    for _ in range(400):
        drawn = expand(rng, template)
        if is_held_out(drawn) == held_out:
            break
    return drawn


def price(rng: random.Random) -> str:
    """An amount such as ``48.90 EUR``."""
    return f"{rng.choice((rng.randint(1, 9), rng.randint(10, 99), rng.randint(100, 499)))}.{rng.choice(('00', '50', '90', '95', '99', '49'))} EUR"


def item(rng: random.Random) -> str:
    """The name of a product; now and then one that nobody has heard of, so that names are copied and not remembered."""
    if rng.random() < 0.15:
        made_up = "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3)))
        return made_up if rng.random() < 0.5 else f"{made_up} {rng.choice(ITEMS).split()[-1]}"
    return rng.choice(ITEMS)


def fill(rng: random.Random, text: str, numbers: tuple[int, ...]) -> str:
    """Put numbers, items, prices and cities in place of ``# @ % ~``."""
    out = []
    for index, char in enumerate(text):
        if char == "#":
            digits = (index and text[index - 1] in "0#") or text[index + 1 : index + 2] == "#"
            out.append(str(rng.randint(1, 9)) if digits else str(rng.choice(numbers)))
        else:
            out.append({"@": item, "%": price, "~": lambda r: r.choice(CITIES)}.get(char, lambda _, c=char: c)(rng))
    return "".join(out)
