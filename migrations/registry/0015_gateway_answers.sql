-- What each serving process answers to a question of the admin API. The question itself travels in a notice
-- (channel gateway_asked) and is kept nowhere.

-- Unlogged: a row lives for a second, is read by who asked, and is worth nothing after a crash. What nobody took away
-- goes with the next question.
CREATE UNLOGGED TABLE IF NOT EXISTS gateway_answers (
  question_id uuid NOT NULL,
  gateway_id uuid NOT NULL,
  answer text NOT NULL,
  answered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (question_id, gateway_id),
  CONSTRAINT gateway_answers_bounded CHECK (octet_length(answer) <= 524288)
);
CREATE INDEX IF NOT EXISTS gateway_answers_answered_at ON gateway_answers (answered_at);
