"""How dates are written in free texts, and months in the languages of hospitals."""

import re

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "i jan january januar janner janvier enero gennaio januari janeiro jaenner jänner",
            "ii feb february februar feber fev fevr fevrier febrero febbraio februari fevereiro",
            "iii mar march marz maerz mrz mars marzo maart mrt marco",
            "iv apr april avr avril abr abril aprile",
            "v may mai mayo maggio mag mei maj maio",
            "vi jun june juni juin junio giugno giu junho",
            "vii jul july juli juil juillet julio luglio lug julho",
            "viii aug august aout ago agosto augustus augusti",
            "ix sep sept september septembre septiembre settembre set setembro",
            "x oct october okt oktober octobre octubre ottobre ott outubro out",
            "xi nov november novembre noviembre novembro",
            "xii dec december dez dezember decembre dic diciembre dicembre dezembro",
        ),
        1,
    )
    for name in names.split()
}
_BETWEEN = r"[\s./\-–_:,年月년월]{1,3}['’]?"
_SIGN = r"\s?[./\-–_年月년월]{1,2}\s?['’]?"
_MAYBE = r"[\s./\-–_,]{0,3}(?:(?:of|de|del)\s)?['’]?"
_NTH = r"(?:st|nd|rd|th|er|\.|º)?"
_MONTH = r"([^\W\d_]{1,12})"
_NO_UNIT = r"(?![\d.,/%°]|\s?(?:ms|mm|mV|bpm|Hz|sec|s|min|years?|yrs?|Jahre?)\b)"
DATES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"(?<!\d)(?=(\d{{1,2}}){_SIGN}(\d{{1,2}}){_SIGN}(\d{{2}})(?!\d))"), "xxy"),
    (re.compile(rf"(?<!\d)(?=(\d{{2}}){_SIGN}(\d{{1,2}}){_SIGN}(\d{{1,2}})(?!\d))"), "yxx"),
    (re.compile(rf"(?<!\d)(?=(\d{{1,2}}){_BETWEEN}(\d{{1,2}}){_BETWEEN}(\d{{4}})(?!\d))"), "xxy"),
    (re.compile(rf"(?<!\d)(?=(\d{{4}}){_BETWEEN}(\d{{1,2}}){_BETWEEN}(\d{{1,2}})(?!\d))"), "yxx"),
    (re.compile(rf"(?<!\d)(?=(\d{{1,2}}){_NTH}{_MAYBE}{_MONTH}{_MAYBE}(\d{{2}}|\d{{4}})(?!\d))"), "dmy"),
    (
        re.compile(rf"(?<![^\W\d_])(?={_MONTH}{_MAYBE}(\d{{1,2}}){_NTH}{_BETWEEN}(?:of\s)?(\d{{2}}|\d{{4}})(?!\d))"),
        "mdy",
    ),
    (re.compile(rf"(?<!\d)(?=(\d{{4}}){_MAYBE}{_MONTH}{_MAYBE}(\d{{1,2}})(?!\d))"), "ymd"),
    (re.compile(rf"(?<![^\W\d_])(?={_MONTH}{_MAYBE}(\d{{4}})(?!\d))"), "my"),
    (re.compile(rf"(?<![^\W\d_])(?=([^\W\d_]{{3,12}})[\s.'’]{{1,2}}(\d{{2}}){_NO_UNIT})"), "my"),
    (re.compile(r"(?<![\d./\-])(?=(\d{1,2})[./\-](\d{4})(?![\d./\-]))"), "my"),
    (re.compile(r"(?<![\d./\-])(?=(\d{4})[./\-](\d{1,2})(?![\d./\-]))"), "ym"),
    (re.compile(r"(?<!\d)(?=(\d{6}|\d{8}|\d{12}|\d{14})(?!\d))"), "run"),
)
"""Patterns of dates, and what their parts are: year, month, day, or a day and a month in either order (x).

Years of two digits need signs between the numbers: `60 5 30` are the axes of an ECG.
"""
CLOCK = re.compile(r"T\d{2}:?\d{2}(?::?\d{2}(?:[.,]\d+)?)?(?:Z|[+\-]\d{2}:?\d{2})?")
