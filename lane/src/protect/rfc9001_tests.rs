//! The examples of RFC 9001, appendix A.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

fn secret(text: &str) -> Secret {
    Secret::from(<[u8; 32]>::try_from(hex(text)).unwrap())
}

const CLIENT_INITIAL: &str = "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea";
const SERVER_INITIAL: &str = "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b";
const CHACHA: &str = "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b";

#[test]
fn a1_initial_keys() {
    let client = secret(CLIENT_INITIAL);
    assert_eq!(
        expand_label::<16>(&client, b"quic key")[..],
        hex("1f369613dd76d5467730efcbe3b1a22d")
    );
    assert_eq!(
        expand_label::<12>(&client, b"quic iv")[..],
        hex("fa044b2f42a3fd3b46fb255c")
    );
    assert_eq!(
        expand_label::<16>(&client, b"quic hp")[..],
        hex("9f50449e04a0e810283a1e9933adedd2")
    );
    let server = secret(SERVER_INITIAL);
    assert_eq!(
        expand_label::<16>(&server, b"quic key")[..],
        hex("cf3a5331653c364c88f0f379b6067e37")
    );
    assert_eq!(
        expand_label::<12>(&server, b"quic iv")[..],
        hex("0ac1493ca1905853b0bba03e")
    );
    assert_eq!(
        expand_label::<16>(&server, b"quic hp")[..],
        hex("c206b8d9b9f0f37644430b490eeaa314")
    );
}

#[test]
fn a2_client_initial_header_protection() {
    let key = HeaderKey::new(Aead::Aes128Gcm, &secret(CLIENT_INITIAL));
    let sample = hex("d1b1c98dd7689fb8ec11d242b123dc9b");
    assert_eq!(key.0.new_mask(&sample).unwrap()[..], hex("437b9aec36"));
}

#[test]
fn a3_server_initial_packet() {
    let secret = secret(SERVER_INITIAL);
    let mut header = hex("c1000000010008f067a5502a4262b50040750001");
    let mut payload = hex(
        "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a12
         00130100002e00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a00
         2b00020304",
    );
    let tag = PacketKey::new(Aead::Aes128Gcm, &secret)
        .seal(1, &header, &mut payload)
        .unwrap();
    payload.extend(tag);

    let counter_at = header.len() - 2;
    let packet = [header.clone(), payload.clone()].concat();
    let mask = HeaderKey::new(Aead::Aes128Gcm, &secret)
        .mask(&packet, counter_at)
        .unwrap();
    assert_eq!(mask[..], hex("2ec0d8356a"));
    header[0] ^= mask[0] & 0x0f; // a long header protects four bits
    header[counter_at] ^= mask[1];
    header[counter_at + 1] ^= mask[2];
    let expected = hex(
        "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780b
         b38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19
         fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee",
    );
    assert_eq!([header, payload].concat(), expected);
}

#[test]
fn a5_chacha20_keys() {
    let secret = secret(CHACHA);
    let key = "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8";
    let hp = "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4";
    let ku = "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9";
    assert_eq!(expand_label::<32>(&secret, b"quic key")[..], hex(key));
    assert_eq!(
        expand_label::<12>(&secret, b"quic iv")[..],
        hex("e0459b3474bdd0e44a41c144")
    );
    assert_eq!(expand_label::<32>(&secret, b"quic hp")[..], hex(hp));
    assert_eq!(next_secret(&secret).bytes()[..], hex(ku));
}

#[test]
fn a5_chacha20_short_header_packet() {
    let secret = secret(CHACHA);
    let counter = 654_360_564;
    let packet_key = PacketKey::new(Aead::ChaCha20Poly1305, &secret);
    assert_eq!(
        packet_key.nonce(counter).as_ref()[..],
        hex("e0459b3474bdd0e46d417eb0")
    );

    let mut packet = hex("4200bff401");
    let (header, payload) = packet.split_at_mut(4);
    let tag = packet_key.seal(counter, header, payload).unwrap();
    packet.extend(tag);
    let mask = HeaderKey::new(Aead::ChaCha20Poly1305, &secret)
        .mask(&packet, 1)
        .unwrap();
    assert_eq!(mask[..], hex("aefefe7d03"));
    let (first, rest) = packet.split_first_mut().unwrap();
    apply_mask(mask, first, &mut rest[..3]);
    assert_eq!(packet, hex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb"));
}
