//! What a relay of a cluster is told on its command line.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use wzp_wire::RelayId;

use super::Fingerprint;

/// Where `wzp-control` takes relays unless told otherwise.
const CONTROL_PORT: u16 = 8_081;
const LONGEST_SECRET: usize = 1_024;
const LONGEST_PLACE: usize = 64;

/// A relay's place in its cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Where the control plane is.
    pub control: ControlUrl,
    /// Lets the relay in.
    pub token: JoinToken,
    /// The relay's name.
    pub id: RelayId,
    /// Where it is.
    pub place: Place,
    /// Where clients reach it; empty: where it is bound.
    pub advertise: Vec<Advertise>,
}

/// Where a relay is; all may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Far from other regions.
    pub region: String,
    /// What fails together.
    pub zone: String,
    /// The machine.
    pub node: String,
}

/// The name of the control plane; each of its addresses is one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlUrl {
    /// Name or address, an IPv6 address without brackets.
    pub host: String,
    /// TCP.
    pub port: u16,
}

/// `wzp1.<SHA-256 of the cluster's authority, base64url>.<secret>`: shown to nobody but whom that authority vouches for.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The authority.
    pub authority: Fingerprint,
    /// What the control plane knows.
    pub secret: String,
}

/// An address for clients; without a port, that of `--listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// Not the unspecified one.
    pub ip: IpAddr,
    /// Not 0.
    pub port: Option<u16>,
}

/// Where to listen: one port, 0 for any, or the first free one of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub ip: IpAddr,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

/// Not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// A control plane.
    #[error("expected https://HOST:PORT (the port is 8081 if none is given)")]
    Control,
    /// A token.
    #[error("expected wzp1.AUTHORITY.SECRET, as wzp-control prints it")]
    Token,
    /// An address for clients.
    #[error("expected an IP address that clients reach, or one with a port")]
    Advertise,
    /// Where to listen.
    #[error("expected ADDR:PORT or ADDR:FIRST-LAST")]
    Listen,
    /// A region, zone or node.
    #[error("expected at most 64 printable letters")]
    Place,
}

impl FromStr for ControlUrl {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let address = text.strip_prefix("https://").unwrap_or(text);
        let address = address.strip_suffix('/').unwrap_or(address);
        if let Ok(ip) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
            let host = ip.to_string();
            let port = CONTROL_PORT;
            return Ok(Self { host, port });
        }
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|&port| port != 0)),
            None => (address, Some(CONTROL_PORT)),
        };
        let host = host.trim_matches(['[', ']']);
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
        let fits = (1..=253).contains(&host.len()) && host.chars().all(plain);
        match port {
            Some(port) if fits => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(BadValue::Control),
        }
    }
}

impl fmt::Display for ControlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for JoinToken {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let rest = text.trim().strip_prefix("wzp1.").ok_or(BadValue::Token)?;
        let (authority, secret) = rest.split_once('.').ok_or(BadValue::Token)?;
        let authority = URL_SAFE_NO_PAD.decode(authority).map_err(|_| BadValue::Token)?;
        let authority = authority.try_into().map_err(|_| BadValue::Token)?;
        let printable = secret.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable || !(1..=LONGEST_SECRET).contains(&secret.len()) {
            return Err(BadValue::Token);
        }
        Ok(Self {
            authority: Fingerprint(authority),
            secret: secret.to_owned(),
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.authority)
    }
}

impl FromStr for Advertise {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let (ip, port) = match (text.parse::<SocketAddr>(), text.trim_matches(['[', ']']).parse()) {
            (Ok(address), _) => (address.ip(), Some(address.port())),
            (_, Ok(ip)) => (ip, None),
            _ => return Err(BadValue::Advertise),
        };
        let ip: IpAddr = ip.to_canonical();
        if ip.is_unspecified() || ip.is_multicast() || port == Some(0) {
            return Err(BadValue::Advertise);
        }
        Ok(Self { ip, port })
    }
}

impl FromStr for Listen {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let (start, last) = text.rsplit_once('-').ok_or(BadValue::Listen)?;
        let start: SocketAddr = start.parse().map_err(|_| BadValue::Listen)?;
        let last = last.parse().map_err(|_| BadValue::Listen)?;
        if start.port() == 0 || last < start.port() {
            return Err(BadValue::Listen);
        }
        Ok(Self { last, ..start.into() })
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self {
            ip: address.ip(),
            first: address.port(),
            last: address.port(),
        }
    }
}

/// A region, zone or node; may be empty.
pub(super) fn place(text: &str) -> Result<String, BadValue> {
    let printable = text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if printable && text.len() <= LONGEST_PLACE {
        Ok(text.to_owned())
    } else {
        Err(BadValue::Place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_planes_are_named_with_and_without_port() {
        let parsed = |text: &str| text.parse::<ControlUrl>().map(|url| url.to_string());
        assert_eq!(
            parsed("https://control.wzp:9000/").unwrap(),
            "https://control.wzp:9000"
        );
        assert_eq!(parsed("127.0.0.1").unwrap(), "https://127.0.0.1:8081");
        assert_eq!(parsed("https://[::1]:1").unwrap(), "https://[::1]:1");
        assert_eq!(parsed("::1").unwrap(), "https://[::1]:8081");
        for bad in ["", "https://", "http://a:1", "a:0", "a:x", "a/b:1"] {
            assert_eq!(parsed(bad), Err(BadValue::Control), "{bad}");
        }
    }

    #[test]
    fn a_token_names_its_authority_and_shows_no_secret() {
        let hash = URL_SAFE_NO_PAD.encode([7; 32]);
        let token: JoinToken = format!("wzp1.{hash}.sec.ret").parse().unwrap();
        assert_eq!(
            (token.authority, token.secret.as_str()),
            (Fingerprint([7; 32]), "sec.ret")
        );
        assert!(!format!("{token:?}").contains("ret"));
        for bad in [
            "",
            "wzp1.x.secret",
            &format!("wzp1.{hash}"),
            &format!("wzp1.{hash}."),
            &format!("wzp2.{hash}.s"),
        ] {
            assert_eq!(bad.parse::<JoinToken>(), Err(BadValue::Token), "{bad}");
        }
    }

    #[test]
    fn addresses_for_clients_and_ranges_of_ports() {
        let advertise = |text: &str| text.parse::<Advertise>().map(|a| (a.ip.to_string(), a.port));
        assert_eq!(advertise("192.0.2.1"), Ok(("192.0.2.1".into(), None)));
        assert_eq!(advertise("[2001:db8::1]:5"), Ok(("2001:db8::1".into(), Some(5))));
        for bad in ["0.0.0.0", "::", "host", "192.0.2.1:0"] {
            assert_eq!(advertise(bad), Err(BadValue::Advertise), "{bad}");
        }
        let listen = |text: &str| text.parse::<Listen>().map(|l| (l.first, l.last));
        assert_eq!(listen("0.0.0.0:0"), Ok((0, 0)));
        assert_eq!(listen("[::]:41000-41009"), Ok((41_000, 41_009)));
        for bad in ["0.0.0.0", "0.0.0.0:9-8", "0.0.0.0:0-8", "0.0.0.0:1-"] {
            assert_eq!(listen(bad), Err(BadValue::Listen), "{bad}");
        }
    }
}
