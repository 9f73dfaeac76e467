"""Random values: names, places, dates, identifiers, paths. Each function takes a Source."""

import string
from collections.abc import Callable, Sequence

from source import Source

Make = Callable[[Source], str]

FIRST_NAMES = """Maria Anna Peter Paul Laura Julia Max Felix Clara Emma Noah Liam Olivia Sofia Lucas Mia Leo Ella Hugo
Nora Ivan Olga Elena Marco Luca Chiara Pedro Ines Carlos Diego Lucia Pablo Amir Layla Omar Fatima Yusuf Aisha Chen Wei
Mei Hiro Yuki Kenji Sakura Raj Priya Arjun Anita Kofi Ama Kwame Zuri Tariq Samira Erik Astrid Lars Ingrid Sven Freya
Jan Eva Tomas Petra Milan Vera Adam Zoe Oscar Ruth Simon Grace Henry Alice Oliver Lily Jack Rose Tom Kate Ben Sarah
Daniel Rachel David Hannah Michael Emily James Sophie George Charlotte Arthur Isabel Victor Irene Martin Helen Frank
Diana Robert Linda Kevin Monica""".split()
LAST_NAMES = """Lopez Garcia Silva Santos Rossi Bianchi Ferrari Moreau Dubois Laurent Schmidt Weber Fischer Meyer Wagner
Novak Kovacs Horvat Petrov Ivanov Nielsen Hansen Larsen Berg Lind Virtanen Smith Jones Brown Taylor Walker Wright Green
Hall Clark Lewis Young King Hill Scott Adams Baker Carter Mitchell Turner Parker Collins Murphy Kelly Ryan Walsh Byrne
Khan Ahmed Ali Hassan Rahman Patel Sharma Singh Gupta Kumar Tanaka Sato Suzuki Mori Kim Park Lee Nguyen Tran Wang Zhang
Liu Chen Okafor Mensah Diallo Costa Pereira Almeida Ortiz Vargas Castro Mendez Torres Navarro Romero Keller Brandt Vogel
Stone Fox Wood Rivers Marsh Frost""".split()
CITIES = """Lisbon Porto Madrid Seville Paris Lyon Nantes Berlin Hamburg Munich Leipzig Vienna Graz Zurich Basel Rome
Milan Turin Naples Athens Oslo Bergen Stockholm Malmo Helsinki Tampere Copenhagen Dublin Cork London Leeds Bristol
Glasgow Warsaw Krakow Prague Brno Budapest Zagreb Split Belgrade Sofia Riga Vilnius Tallinn Kyiv Istanbul Ankara Cairo
Tunis Rabat Lagos Accra Nairobi Kampala Durban Mumbai Delhi Pune Chennai Lahore Dhaka Bangkok Hanoi Manila Jakarta
Singapore Seoul Busan Tokyo Osaka Kyoto Sydney Perth Auckland Toronto Montreal Boston Chicago Denver Austin Seattle
Portland Lima Bogota Quito Santiago Recife""".split()
COLOURS = """red blue green yellow orange purple pink brown black white grey turquoise violet silver gold beige navy
crimson teal olive""".split()
FOODS = """pizza pasta sushi curry soup salad rice bread cheese pancakes dumplings tacos falafel risotto lasagne ramen
paella goulash couscous noodles omelette""".split()
DRINKS = """coffee tea water cocoa lemonade juice milk cider mate espresso""".split()
FRUITS = """apple pear banana mango peach plum cherry grape melon kiwi papaya lemon fig apricot""".split()
ANIMALS = """fox owl wolf bear otter whale dolphin eagle tiger panda koala badger heron falcon lynx seal hedgehog""".split()
SEASONS = ["spring", "summer", "autumn", "winter"]
JOBS = """teacher nurse baker plumber pilot farmer lawyer dentist carpenter electrician translator librarian architect
gardener photographer accountant chemist mechanic cook tailor designer journalist sailor surgeon barber""".split()
LANGUAGES = """English German French Spanish Italian Portuguese Polish Czech Turkish Arabic Hindi Japanese Korean Swedish
Finnish Greek Dutch Danish""".split()
INSTRUMENTS = "piano guitar violin cello flute trumpet drums clarinet harp saxophone".split()
ALLERGENS = "nuts milk eggs wheat soy fish pollen dust cats latex sesame strawberries".split()
MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
WORDS = """amber anchor apex arrow atlas aurora basil beacon birch bridge canyon cedar cobalt comet copper coral crystal
delta ember falcon fern flint forest garnet glacier harbor hazel horizon indigo iris jade jasper juniper kestrel lagoon
lantern lotus maple marble meadow mercury mesa meteor mist nebula nova oak onyx opal orbit orchid osprey pearl pebble
phoenix pine pixel plaza polar prairie quartz quill raven reef ridge river robin ruby saffron sage sierra silver slate
solar sparrow spruce summit swift tango tempest thistle thunder tidal topaz tulip valley velvet violet vortex walnut
willow winter zenith zephyr alpha beta gamma omega sigma""".split()
PREFIXES = "ORD INV TCK REQ CASE PO CUST REF SKU JOB BUG INC CHG DOC TRX PKG RMA ACC".split()
SERVICES = "billing search login gateway checkout mailer scheduler indexer reports payments auth cache worker ledger".split()
DIRECTORIES = "srv etc var opt home data mnt usr".split()
FOLDERS = "keys config logs backup app jobs certs images reports deploy www cache secrets exports".split()
EXTENSIONS = "log txt yaml json conf pem csv md toml key".split()
ONSETS = "b br c ch d dr f g gr h j k kr l m n p pr qu r s sh st t tr v w y z".split()
VOWELS = "a e i o u ai ei ou ia".split()
CODAS = ["", "", "", "n", "r", "l", "s", "m", "x", "nd", "rk", "th", "ck"]


def digits(s: Source, count: int) -> str:
    return "".join(s.choice(string.digits) for _ in range(count))


def capitals(s: Source, count: int) -> str:
    return "".join(s.choice(string.ascii_uppercase) for _ in range(count))


def alphanumeric(s: Source, count: int, letters: str = string.ascii_lowercase) -> str:
    return "".join(s.choice(letters + string.digits) for _ in range(count))


def invented_word(s: Source) -> str:
    """A made-up word of two or three syllables."""
    count = s.choice((2, 2, 3))
    return "".join(s.choice(ONSETS) + s.choice(VOWELS) + (s.choice(CODAS) if s.chance(0.4) else "") for _ in range(count))


def first_name(s: Source) -> str:
    return s.choice(FIRST_NAMES) if s.chance(0.6) else invented_word(s).capitalize()


def last_name(s: Source) -> str:
    return s.choice(LAST_NAMES) if s.chance(0.6) else invented_word(s).capitalize()


def full_name(s: Source) -> str:
    return f"{first_name(s)} {last_name(s)}"


def person(s: Source) -> str:
    return full_name(s) if s.chance(0.7) else first_name(s)


def city(s: Source) -> str:
    return s.choice(CITIES) if s.chance(0.6) else invented_word(s).capitalize()


def company(s: Source) -> str:
    kind = s.randrange(3)
    if kind == 0:
        return f"{s.choice(WORDS).capitalize()} {s.choice(('Systems', 'Labs', 'Foods', 'Media', 'Logistics', 'Energy'))}"
    return f"{invented_word(s).capitalize()}" if kind == 1 else f"{last_name(s)} and {last_name(s)}"


def project(s: Source) -> str:
    return s.choice(WORDS).capitalize() if s.chance(0.6) else invented_word(s).capitalize()


def title(s: Source) -> str:
    return f"The {s.choice(WORDS).capitalize()} {invented_word(s).capitalize() if s.chance(0.5) else s.choice(WORDS).capitalize()}"


def date(s: Source) -> str:
    return f"{s.randint(1, 28)} {s.choice(MONTHS)}"


def deadline(s: Source) -> str:
    return date(s) if s.chance(0.7) else s.choice(WEEKDAYS)


def clock(s: Source) -> str:
    return f"{s.randint(7, 21):02d}:{s.choice((0, 15, 30, 45, 10, 20, 40, 50)):02d}"


def amount(s: Source) -> str:
    number = s.choice((s.randint(20, 999), s.randint(1, 99) * 1000 + s.choice((0, 250, 500, 750))))
    return f"{number:,} {s.choice(('euros', 'dollars', 'pounds'))}"


def order_like(s: Source) -> str:
    prefix = s.choice(PREFIXES) if s.chance(0.6) else capitals(s, s.randint(2, 4))
    return f"{prefix}-{digits(s, s.randint(3, 6))}"


def prefixed(prefix: str) -> Make:
    """Identifiers such as ORD-48213 with a fixed prefix most of the time."""
    return lambda s: f"{prefix}-{digits(s, s.randint(4, 6))}" if s.chance(0.75) else order_like(s)


def number(low: int, high: int) -> Make:
    return lambda s: digits(s, s.randint(low, high))


def reference(s: Source) -> str:
    return alphanumeric(s, 6, string.ascii_uppercase)


def plate(s: Source) -> str:
    return f"{capitals(s, 2)} {digits(s, 4)}" if s.chance(0.5) else f"{capitals(s, 1)}-{capitals(s, 2)} {digits(s, 3)}"


def seat(s: Source) -> str:
    return f"{s.randint(1, 48)}{s.choice('ABCDEF')}"


def room(s: Source) -> str:
    return f"{s.choice('ABCDEFGH')}{s.randint(1, 480)}"


def flight(s: Source) -> str:
    return f"{capitals(s, 2)}{digits(s, s.randint(3, 4))}"


def handle(s: Source) -> str:
    word = s.choice(WORDS) if s.chance(0.5) else invented_word(s)
    return f"{word}{s.choice(('_', '.', ''))}{digits(s, 2)}"


def email(s: Source) -> str:
    name = s.choice(FIRST_NAMES).lower() if s.chance(0.5) else invented_word(s)
    return f"{name}{s.choice(('.', '_', ''))}{digits(s, 2)}@{s.choice(WORDS)}.example"


def slug(s: Source) -> str:
    word = s.choice(WORDS) if s.chance(0.6) else invented_word(s)
    return f"{word}-{s.randint(1, 99)}"


def path(s: Source) -> str:
    parts = [s.choice(DIRECTORIES), s.choice(FOLDERS) if s.chance(0.7) else invented_word(s)]
    if s.chance(0.3):
        parts.append(s.choice(WORDS))
    return "/" + "/".join(parts) + "/" + (slug(s) if s.chance(0.4) else f"{slug(s)}.{s.choice(EXTENSIONS)}")


def folder(s: Source) -> str:
    return f"/{s.choice(DIRECTORIES)}/{s.choice(FOLDERS)}/{slug(s)}"


def host(s: Source) -> str:
    base = s.choice(("db", "web", "app", "node", "cache", "srv", "build")) if s.chance(0.5) else s.choice(WORDS)
    return f"{base}-{digits(s, 2)}" if s.chance(0.5) else f"{base}{digits(s, 2)}.{s.choice(WORDS)}.internal"


def error_code(s: Source) -> str:
    return f"E{digits(s, 4)}" if s.chance(0.5) else f"ERR-{digits(s, 3)}" if s.chance(0.5) else f"0x{alphanumeric(s, 4, 'ABCDEF')}"


def branch(s: Source) -> str:
    return f"{s.choice(('feature', 'fix', 'release', 'hotfix'))}/{slug(s)}"


def commit(s: Source) -> str:
    return alphanumeric(s, 7, "abcdef")


def version(s: Source) -> str:
    return f"{s.randint(0, 12)}.{s.randint(0, 30)}.{s.randint(0, 20)}"


def license_key(s: Source) -> str:
    return "-".join(alphanumeric(s, 4, string.ascii_uppercase) for _ in range(3))


def table(s: Source) -> str:
    return s.choice("orders users invoices events tickets sessions payments products visits alerts".split()) if s.chance(0.5) \
        else f"{s.choice(WORDS)}_{s.choice(('log', 'items', 'stats', 'jobs'))}"


def one_of(options: Sequence[str]) -> Make:
    return lambda s: s.choice(options)
