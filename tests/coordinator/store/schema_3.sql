-- SPDX-License-Identifier: Apache-2.0
-- A database as the fedmill of schema 3 left it; never changed.
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
    PRIMARY KEY (id),
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
INSERT INTO schema_version VALUES (3);
INSERT INTO jobs (name, text, sha256, state, created_ns, updated_ns, rule_state, template)
VALUES ('bearings', '[job]', '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', 'finished', 1, 2, x'01', '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef');
INSERT INTO versions VALUES ('bearings', 0, '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', NULL, '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', NULL, x'02', NULL, 3);
INSERT INTO versions VALUES ('bearings', 1, 'fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210', '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', 'fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210', '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', x'02', 1, 4);
INSERT INTO aliases VALUES ('bearings', 'candidate', 'fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210', 5);
INSERT INTO aliases VALUES ('bearings', 'stable', 'fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210', 5);
INSERT INTO orders VALUES (1, 'bearings', 'pause', 'anna', 6, 7, 'the job is paused');
INSERT INTO orders VALUES (2, 'bearings', 'close', 'anna', 8, NULL, '');
