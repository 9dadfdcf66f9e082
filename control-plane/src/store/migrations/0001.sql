-- Times are Unix seconds. There are no NULLs: '' and 0 stand for nothing.

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Keys of the cluster: kind 'authority' signs certificates, kind 'grant' signs grants. Of each kind the one with the
-- highest active_at that has come signs, and all that are here are believed.
CREATE TABLE signing_keys (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    secret BYTEA NOT NULL,
    public BYTEA NOT NULL,
    made_at BIGINT NOT NULL,
    active_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);

-- Which relay a key of a certificate belongs to, for as long as one is valid.
CREATE TABLE relay_keys (
    public BYTEA PRIMARY KEY,
    relay TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash BYTEA NOT NULL,
    scopes TEXT NOT NULL,
    made_at BIGINT NOT NULL
);

-- The lease of each room. A row without seats is a room that was deleted: it keeps the epoch, which only rises.
CREATE TABLE rooms (
    room TEXT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    seats TEXT NOT NULL,
    last_sender BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE room_policies (
    room TEXT PRIMARY KEY,
    policy TEXT NOT NULL
);

-- Nonces of joins that identities signed themselves, until their signature is too old anyway.
CREATE TABLE join_nonces (
    identity BYTEA NOT NULL,
    nonce BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (identity, nonce)
);

CREATE TABLE idempotency_keys (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    request BYTEA NOT NULL,
    status BIGINT NOT NULL,
    response BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (owner, name)
);

CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    secret BYTEA NOT NULL,
    events TEXT NOT NULL,
    made_at BIGINT NOT NULL
);

CREATE TABLE webhook_outbox (
    id TEXT PRIMARY KEY,
    webhook TEXT NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL
);
CREATE INDEX webhook_outbox_next ON webhook_outbox (next_at);

CREATE TABLE calls (
    id TEXT PRIMARY KEY,
    caller BYTEA NOT NULL,
    callee BYTEA NOT NULL,
    began_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    outcome TEXT NOT NULL
);
