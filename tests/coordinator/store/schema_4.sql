-- SPDX-License-Identifier: Apache-2.0
-- A database as the fedmill of schema 4 left it; never changed.
CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE jobs (
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    state TEXT NOT NULL,
    created_ns BIGINT NOT NULL,
    updated_ns BIGINT NOT NULL,
    normaliser BLOB,
    manifest BLOB,
    template TEXT,
    canary_inputs TEXT,
    rule_state BLOB NOT NULL,
    downlink_residual TEXT,
    paused BOOLEAN DEFAULT 0 NOT NULL,
    quantised TEXT,
    further_rounds BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE agents (
    agent TEXT NOT NULL,
    online BOOLEAN NOT NULL,
    last_seen_ns BIGINT NOT NULL,
    software TEXT NOT NULL,
    jobs TEXT NOT NULL,
    model_version TEXT,
    resident_bytes BIGINT NOT NULL,
    windows_scored BIGINT NOT NULL,
    clock_skew_ms DOUBLE,
    detail TEXT NOT NULL,
    labels TEXT DEFAULT '{}' NOT NULL,
    PRIMARY KEY (agent)
);
CREATE TABLE refusals (
    id INTEGER NOT NULL,
    job TEXT NOT NULL,
    agent TEXT NOT NULL,
    reason TEXT NOT NULL,
    text TEXT NOT NULL,
    received_ns BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE moments (
    job TEXT NOT NULL,
    agent TEXT NOT NULL,
    payload BLOB NOT NULL,
    received_ns BIGINT NOT NULL,
    PRIMARY KEY (job, agent),
    FOREIGN KEY(job) REFERENCES jobs (name)
);
CREATE TABLE versions (
    job TEXT NOT NULL,
    number BIGINT NOT NULL,
    version TEXT NOT NULL,
    base TEXT,
    weights TEXT,
    delta TEXT,
    canary_outputs BLOB NOT NULL,
    round BIGINT,
    created_ns BIGINT NOT NULL,
    PRIMARY KEY (job, number),
    UNIQUE (job, version),
    FOREIGN KEY(job, base) REFERENCES versions (job, version),
    FOREIGN KEY(job) REFERENCES jobs (name)
);
CREATE TABLE traffic (
    job TEXT NOT NULL,
    round BIGINT NOT NULL,
    agent TEXT NOT NULL,
    uplink_bytes BIGINT NOT NULL,
    downlink_bytes BIGINT NOT NULL,
    PRIMARY KEY (job, round, agent),
    FOREIGN KEY(job) REFERENCES jobs (name)
);
CREATE TABLE orders (
    id INTEGER NOT NULL,
    job TEXT NOT NULL,
    verb TEXT NOT NULL,
    "by" TEXT NOT NULL,
    given_ns BIGINT NOT NULL,
    done_ns BIGINT,
    outcome TEXT NOT NULL,
    argument TEXT DEFAULT '' NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(job) REFERENCES jobs (name)
);
CREATE TABLE wishes (
    job TEXT NOT NULL,
    agent TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL,
    heard_ns BIGINT NOT NULL,
    settled_ns BIGINT,
    rounds BIGINT NOT NULL,
    PRIMARY KEY (job, agent),
    FOREIGN KEY(job) REFERENCES jobs (name)
);
CREATE TABLE aliases (
    job TEXT NOT NULL,
    alias TEXT NOT NULL,
    version TEXT NOT NULL,
    updated_ns BIGINT NOT NULL,
    PRIMARY KEY (job, alias),
    FOREIGN KEY(job, version) REFERENCES versions (job, version)
);
CREATE TABLE rounds (
    job TEXT NOT NULL,
    round BIGINT NOT NULL,
    base TEXT NOT NULL,
    state TEXT NOT NULL,
    opened_ns BIGINT NOT NULL,
    deadline_ns BIGINT NOT NULL,
    closed_ns BIGINT,
    seconds DOUBLE,
    included TEXT NOT NULL,
    uplink_bytes BIGINT NOT NULL,
    downlink_bytes BIGINT NOT NULL,
    report TEXT NOT NULL,
    accepted BIGINT DEFAULT '0' NOT NULL,
    rejected BIGINT DEFAULT '0' NOT NULL,
    discarded BIGINT DEFAULT '0' NOT NULL,
    asked TEXT DEFAULT '[]' NOT NULL,
    published_bytes BIGINT DEFAULT '0' NOT NULL,
    uplink TEXT DEFAULT '' NOT NULL,
    PRIMARY KEY (job, round),
    FOREIGN KEY(job, base) REFERENCES versions (job, version)
);
CREATE UNIQUE INDEX one_open_round ON rounds (job) WHERE state = 'open';
CREATE TABLE releases (
    job TEXT NOT NULL,
    release BIGINT NOT NULL,
    version TEXT NOT NULL,
    "before" TEXT,
    why TEXT NOT NULL,
    "by" TEXT NOT NULL,
    order_id BIGINT NOT NULL,
    newest BIGINT NOT NULL,
    state TEXT NOT NULL,
    rings TEXT NOT NULL,
    opened BIGINT NOT NULL,
    ring_ns BIGINT NOT NULL,
    soak_ns BIGINT,
    resumed_ns BIGINT NOT NULL,
    canary TEXT NOT NULL,
    created_ns BIGINT NOT NULL,
    ended_ns BIGINT,
    reason TEXT NOT NULL,
    PRIMARY KEY (job, release),
    FOREIGN KEY(job, version) REFERENCES versions (job, version),
    FOREIGN KEY(job, "before") REFERENCES versions (job, version)
);
CREATE TABLE evaluations (
    job TEXT NOT NULL,
    version TEXT NOT NULL,
    agent TEXT NOT NULL,
    split TEXT NOT NULL,
    statistic BLOB NOT NULL,
    windows BIGINT NOT NULL,
    received_ns BIGINT NOT NULL,
    PRIMARY KEY (job, version, agent, split),
    FOREIGN KEY(job, version) REFERENCES versions (job, version)
);
CREATE TABLE updates (
    job TEXT NOT NULL,
    round BIGINT NOT NULL,
    agent TEXT NOT NULL,
    base TEXT NOT NULL,
    blob TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    examples BIGINT NOT NULL,
    loss DOUBLE,
    wire_bytes BIGINT NOT NULL,
    seconds DOUBLE,
    received_ns BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    code TEXT DEFAULT '' NOT NULL,
    included_in BIGINT,
    norm DOUBLE,
    steps DOUBLE DEFAULT '0' NOT NULL,
    shift TEXT DEFAULT '{}' NOT NULL,
    PRIMARY KEY (job, round, agent, base),
    FOREIGN KEY(job, round) REFERENCES rounds (job, round)
);
CREATE INDEX updates_by_state ON updates (state, job);
CREATE INDEX updates_by_arrival ON updates (job, received_ns);
CREATE TABLE installs (
    job TEXT NOT NULL,
    release BIGINT NOT NULL,
    agent TEXT NOT NULL,
    ring BIGINT NOT NULL,
    state TEXT NOT NULL,
    gate TEXT NOT NULL,
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL,
    since_ns BIGINT NOT NULL,
    asked_ns BIGINT NOT NULL,
    heard_ns BIGINT NOT NULL,
    PRIMARY KEY (job, release, agent),
    FOREIGN KEY(job, release) REFERENCES releases (job, release)
);
INSERT INTO schema_version VALUES (4);
INSERT INTO jobs (name, text, sha256, state, created_ns, updated_ns, rule_state, template)
VALUES ('bearings', '[job]', '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', 'running', 1, 2, x'01', '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef');
INSERT INTO versions VALUES ('bearings', 0, '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', NULL, '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', NULL, x'02', NULL, 3);
INSERT INTO rounds (job, round, base, state, opened_ns, deadline_ns, included, uplink_bytes, downlink_bytes, report)
VALUES ('bearings', 1, '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', 'open', 4, 90, '[]', 0, 0, '{}');
INSERT INTO updates (job, round, agent, base, blob, sha256, examples, loss, wire_bytes, seconds, received_ns, state, reason)
VALUES ('bearings', 1, 'press-1', '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', 'fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210', 'fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210', 8, 0.5, 64, 0.1, 5, 'received', '');
