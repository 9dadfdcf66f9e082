//! Events as people read them.

use super::{Event, Summary};

/// The lines of an event; `None` for what only programs want, or what standard error says.
pub(super) fn lines(event: &Event<'_>) -> Option<String> {
    let text = match event {
        Event::Connected {
            room,
            fingerprint,
            sender,
            relay,
            address,
            carrier,
            members,
        } => format!(
            "in room {room} as {fingerprint} (sender {sender}), with {members} other(s), by relay {relay} ({address}) over {carrier}"
        ),
        Event::Path {
            kind,
            address,
            carrier,
            why,
            cause: None,
            ..
        } => format!("path: {kind} {address} over {carrier} ({why})"),
        Event::Path {
            kind,
            relay,
            address,
            carrier,
            why,
            cause: Some(cause),
            both,
            standby,
        } => {
            let beside = match (standby, both) {
                (Some(standby), Some(true)) => format!("and {standby}"),
                (Some(standby), _) => format!("standby {standby}"),
                (None, _) => "no standby".into(),
            };
            format!("path: {kind} {relay} {address} over {carrier} ({why}), {beside} ({cause})")
        }
        Event::Member {
            fingerprint,
            joined: Some(_),
            ..
        } => format!("{fingerprint} joined"),
        Event::Member { fingerprint, .. } => format!("{fingerprint} left"),
        Event::Tier { from, to, why } => format!("tier: {from} -> {to} ({why})"),
        Event::Stats(_) | Event::Error { .. } | Event::Sweep(_) => return None,
        Event::Summary(summary) => self::summary(summary),
        Event::Notice { text, .. } => text.clone(),
        Event::Table { text } => (*text).to_owned(),
        Event::Quality {
            second,
            rtt_ms,
            echo_ms,
            loss_percent,
            jitter_ms,
            delay_ms,
            concealed_ms,
            mos,
        } => {
            let row = format!(
                "{second:>4}  {:>7}  {:>7}  {loss_percent:>6.1}  {:>9}  {:>8}  {concealed_ms:>12}  {:>4}",
                or_dash(*rtt_ms),
                echo_ms.map_or_else(|| "-".into(), |ms| ms.to_string()),
                or_dash(*jitter_ms),
                or_dash(*delay_ms),
                or_dash(*mos),
            );
            if *second == 1 {
                format!("{QUALITY_HEAD}\n{row}")
            } else {
                row
            }
        }
        Event::Drift {
            fingerprint,
            own,
            ppm,
            error_ppm,
        } => {
            let whose = if *own {
                "own sound, returned (the method's own error)"
            } else {
                fingerprint
            };
            format!("{ppm:>+8.1} ppm ± {error_ppm:.1}  {whose}")
        }
        Event::Verdict { verdict, text } => format!("verdict: {verdict}. {text}"),
        Event::Identity {
            fingerprint,
            public_key,
            file,
            phrase,
        } => {
            let mut text = format!("fingerprint  {fingerprint}\npublic key   {public_key}");
            if let Some(file) = file {
                text += &format!(
                    "\nkept in      {}\nWrite the 24 words down, they are the only way back: wzp-client identity show --phrase",
                    file.display()
                );
            }
            if let Some(phrase) = phrase {
                text += &format!("\nphrase       {phrase}");
            }
            text
        }
        Event::SafetyNumber {
            fingerprint,
            own_fingerprint,
            safety_number,
        } => format!(
            "they           {fingerprint}\nyou            {own_fingerprint}\nsafety number  {safety_number}\n\
             Read it to each other over a way you trust: when both see the same digits, nobody sits in between."
        ),
    };
    Some(text)
}

const QUALITY_HEAD: &str = " sec   RTT ms  echo ms  loss %  jitter ms  delay ms  concealed ms   MOS";

fn or_dash(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".into(), |figure| format!("{figure:.1}"))
}

fn summary(summary: &Summary) -> String {
    let Summary {
        sent,
        repair_sent,
        received,
        repair_received,
        lost,
        recovered,
        concealed_ms,
        late,
        rtt_ms,
        jitter_ms,
        delay_ms,
        wire_kbps_up,
        wire_kbps_down,
        tier,
        room,
        fingerprint: _,
        longest_gap_ms,
    } = summary;
    let known = |ms: &Option<f64>| ms.map_or_else(|| "unknown".into(), |ms| format!("{ms:.1} ms"));
    let (rtt, jitter, delay) = (known(rtt_ms), known(jitter_ms), known(delay_ms));
    format!(
        "call in {room} ended\n  \
         sent      {sent} packets and {repair_sent} of repair, {wire_kbps_up:.1} kbit/s with IP and UDP headers, tier {tier}\n  \
         received  {received} packets and {repair_received} of repair, {wire_kbps_down:.1} kbit/s; lost {lost}, recovered {recovered}, late {late}\n  \
         heard     {concealed_ms} ms concealed, longest gap {longest_gap_ms} ms, buffer {delay}\n  \
         link      round trip {rtt}, jitter {jitter}"
    )
}
