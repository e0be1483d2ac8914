//! Timestamps as the language has them: RFC 3339 with a capital `T`, and a capital `Z` or an offset
//! (aws-semantics 10.2.3).

/// Nanoseconds since 1970-01-01T00:00:00Z.
pub type Nanoseconds = i128;

const SECOND: Nanoseconds = 1_000_000_000;

/// Whether a text is a timestamp.
pub fn is_valid(text: &str) -> bool {
    parse(text).is_some()
}

/// The instant that a timestamp names. Digits beyond nanoseconds are dropped.
pub fn parse(text: &str) -> Option<Nanoseconds> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes[4] != b'-' || bytes[7] != b'-' || bytes[10] != b'T' {
        return None;
    }
    if bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let year = number(bytes, 0, 4)?;
    let month = number(bytes, 5, 2)?;
    let day = number(bytes, 8, 2)?;
    let hour = number(bytes, 11, 2)?;
    let minute = number(bytes, 14, 2)?;
    let second = number(bytes, 17, 2)?;
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanoseconds, zone) = fraction(&bytes[19..])?;
    let offset_minutes = offset(zone)?;
    let minutes = (days_before(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Some(Nanoseconds::from(minutes * 60 + second) * SECOND + Nanoseconds::from(nanoseconds))
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<i64> {
    bytes
        .get(at..at + length)?
        .iter()
        .try_fold(0, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + i64::from(byte - b'0'))
        })
}

/// The fraction of a second, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let count = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if count == 0 {
        return None;
    }
    let kept = count.min(9);
    let scale = 10_i64.pow(9 - kept as u32);
    Some((number(digits, 0, kept)? * scale, &digits[count..]))
}

/// Minutes east of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let sign = match zone {
        b"Z" => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    if zone.len() != 6 || zone[3] != b':' {
        return None;
    }
    let (hours, minutes) = (number(zone, 1, 2)?, number(zone, 4, 2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March, so that the leap
/// day is the last of one.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_an_instant_whatever_its_zone() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("1970-01-01T01:30:00+01:30"), Some(0));
        assert_eq!(parse("1969-12-31T23:00:00.5-01:00"), Some(SECOND / 2));
        assert_eq!(parse("2016-03-14T01:59:00Z"), Some(1_457_920_740 * SECOND));
        assert_eq!(parse("2000-02-29T00:00:00Z"), Some(951_782_400 * SECOND));
        assert_eq!(
            parse("0000-03-01T00:00:00Z"),
            Some(-62_162_035_200 * SECOND)
        );
        assert_eq!(
            parse("9999-12-31T23:59:59Z"),
            Some(253_402_300_799 * SECOND)
        );
        assert_eq!(
            parse("2000-01-01T00:00:00.1234567899Z").map(|t| t % SECOND),
            Some(123_456_789)
        );
    }

    #[test]
    fn anything_else_is_not_a_timestamp() {
        for text in [
            "",
            "2016-12-05",
            "2016-12-05T21:29:29",
            "2016-12-05T25:29:29Z",
            "2016-12-05t21:29:29Z",
            "2016-12-05T21:29:29z",
            "2016-12-05 21:29:29Z",
            "2016-02-30T00:00:00Z",
            "2001-02-29T00:00:00Z",
            "2016-13-05T00:00:00Z",
            "2016-12-05T21:29:29.Z",
            "2016-12-05T21:29:29+0100",
            "2016-12-05T21:29:29+24:00",
            "2016-12-05T21:29:60Z",
            "2016-12-05T21:29:29Zx",
            "+016-12-05T21:29:29Z",
            "２０１６-12-05T21:29:29Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
