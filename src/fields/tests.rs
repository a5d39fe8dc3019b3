//! Each kind of field: what is read, and what is said of what cannot be.

use std::time::Duration;

use super::{Fields, Reader};

/// What `read` makes of a file, or its faults.
fn check<T: PartialEq + std::fmt::Debug>(
    text: &str,
    read: fn(&mut Fields<'_>) -> Option<T>,
    expected: Result<T, &str>,
) {
    let reader = Reader::default();
    let mut fields = reader.parse(text);
    let value = read(&mut fields);
    fields.end();
    let result = reader.finish(value).map_err(|faults| faults.to_string());
    assert_eq!(result, expected.map_err(str::to_owned), "{text}");
}

#[test]
fn fields_are_read_by_kind() {
    check("a = \"x\"", |f| f.required("a").text(), Ok("x".to_owned()));
    check("a = \" \"", |f| f.required("a").text(), Err("a: is \" \"; write a text in quotes, not empty"));
    check("a = \"x\"", |f| f.required("a").word(&["x", "y"]), Ok("x"));
    check("a = \"z\"", |f| f.required("a").word(&["x", "y"]), Err("a: is \"z\"; write one of: x, y"));
    check("a = true", |f| f.required("a").boolean(), Ok(true));
    check("a = 1", |f| f.required("a").boolean(), Err("a: is 1; write true or false"));
    check("a = [\"x\", \"y\"]", |f| f.required("a").texts(), Ok(vec!["x".to_owned(), "y".to_owned()]));
    check("", |f| f.required("a").boolean(), Err("a: is missing; write it"));
    check("", |f| Some(f.optional("a").boolean()), Ok(None));
}

#[test]
fn numbers_are_within_their_range() {
    let remedy = "write a whole number from 1 to 300";
    let read = |f: &mut Fields<'_>| f.required("a").whole::<u8>(1..=300);
    check("a = 255", read, Ok(255));
    check("a = 256", read, Err(&format!("a: is 256; {remedy}")));
    check("a = 0", read, Err(&format!("a: is 0; {remedy}")));
    check("a = -1", read, Err(&format!("a: is -1; {remedy}")));
    check("a = 1.5", read, Err(&format!("a: is 1.5; {remedy}")));
    check("a = [1]", read, Err(&format!("a: is an array; {remedy}")));
}

#[test]
fn decimals_are_exact_and_in_quotes() {
    let read = |f: &mut Fields<'_>| f.required("a").decimal().map(|decimal| decimal.to_string());
    let fault = |written: &str| format!("a: is {written}; write an exact number in quotes, as in \"0.30\"");
    check("a = \"0.30\"", read, Ok("0.30".to_owned()));
    check("a = 0.30", read, Err(&fault("0.3")));
    check("a = \"1e5\"", read, Err(&fault("\"1e5\"")));
    check("a = \"0.00000000000000000000000000001\"", read, Err(&fault("\"0.00000000000000000000000000001\"")));
}

#[test]
fn durations_have_a_unit() {
    let read = |f: &mut Fields<'_>| f.required("a").duration(Duration::from_millis(1)..=Duration::from_secs(172_800));
    let fault = |written: &str| {
        format!("a: is {written}; write a duration such as \"500ms\", \"15s\" or \"72h\", from 1ms to 172800s")
    };
    check("a = \"250ms\"", read, Ok(Duration::from_millis(250)));
    check("a = \"15s\"", read, Ok(Duration::from_secs(15)));
    check("a = \"15m\"", read, Ok(Duration::from_secs(900)));
    check("a = \"24h\"", read, Ok(Duration::from_secs(86_400)));
    check("a = \"2d\"", read, Ok(Duration::from_secs(172_800)));
    for wrong in
        ["15", "s", "1.5s", "-1s", "0s", "3d", "15 s", "99999999999999999999s", "18446744073709551615d", "15µs"]
    {
        check(&format!("a = \"{wrong}\""), read, Err(&fault(&format!("\"{wrong}\""))));
    }
    check("a = 15", read, Err(&fault("15")));
}

#[test]
fn tables_know_their_path() {
    let read = |f: &mut Fields<'_>| {
        let mut sum = 0;
        for mut table in f.required("a").tables()? {
            sum += table.required("b").fields().and_then(|mut b| b.required("c").whole(0..=9)).unwrap_or(0_u32);
            table.end();
        }
        Some(sum)
    };
    check("a = [{ b = { c = 3 } }, { b = { c = 4 } }]", read, Ok(7));
    check(
        "a = [{ b = { c = 3 } }, { b = { c = 40 } }]",
        read,
        Err("a[1].b.c: is 40; write a whole number from 0 to 9"),
    );
    check("a = [{ b = { c = 3 }, d = 1 }]", read, Err("a[0].d: is not known here; remove it or choose one of: b"));
    check("a = [1]", read, Err("a: is an array; write tables in double square brackets"));
    let entries = |f: &mut Fields<'_>| {
        let entries = f.required("a").entries()?;
        entries.into_iter().map(|(name, field)| Some((name, field.boolean()?))).collect::<Option<Vec<_>>>()
    };
    check("a.x = true", entries, Ok(vec![("x".to_owned(), true)]));
    check("a.x = 1", entries, Err("a.x: is 1; write true or false"));
}

#[test]
fn all_faults_come_at_once() {
    let read = |f: &mut Fields<'_>| {
        let a = f.required("a").boolean();
        let b = f.required("b").boolean();
        Some(a? && b?)
    };
    let faults =
        "a: is 1; write true or false\nb: is missing; write it\nc: is not known here; remove it or choose one of: a, b";
    check("a = 1\nc = 2", read, Err(faults));
    check("a = 1\n\nc = = 2", read, Err("line 3: extra `=`, expected nothing; correct the TOML here"));
}
