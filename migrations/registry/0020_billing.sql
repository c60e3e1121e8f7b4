-- What usage costs, and statements that never change.

-- The prices of a plan from a month on; plan * is for tenants whose own plan has none. What `prices` may hold stands in
-- registry/billing/price-list.ts. A statement keeps a copy of those that it was made by.
CREATE TABLE IF NOT EXISTS price_lists (
  plan text NOT NULL,
  from_month date NOT NULL,
  currency text NOT NULL,
  prices jsonb NOT NULL,
  created_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (plan, from_month),
  CONSTRAINT price_lists_plan_form CHECK (plan = '*' OR plan ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  CONSTRAINT price_lists_month CHECK (extract(day FROM from_month) = 1),
  CONSTRAINT price_lists_currency CHECK (currency ~ '^[A-Z]{3}$'),
  CONSTRAINT price_lists_object CHECK (jsonb_typeof(prices) = 'object')
);

-- One for each tenant and month, with its inputs. No foreign key: it outlives its tenant.
CREATE TABLE IF NOT EXISTS statements (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id uuid NOT NULL,
  month date NOT NULL,
  tenant_key text NOT NULL,
  currency text NOT NULL,
  -- In the currency's minor unit, as all amounts.
  total_minor bigint NOT NULL,
  lines jsonb NOT NULL,
  inputs jsonb NOT NULL,
  frozen_by text NOT NULL,
  frozen_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT statements_once UNIQUE (tenant_id, month),
  CONSTRAINT statements_month CHECK (extract(day FROM month) = 1),
  CONSTRAINT statements_currency CHECK (currency ~ '^[A-Z]{3}$')
);
CREATE INDEX IF NOT EXISTS statements_month_tenant ON statements (month, tenant_id);

CREATE OR REPLACE FUNCTION statements_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a statement never changes: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
DROP TRIGGER IF EXISTS statements_frozen ON statements;
CREATE TRIGGER statements_frozen BEFORE UPDATE OR DELETE OR TRUNCATE ON statements
  FOR EACH STATEMENT EXECUTE FUNCTION statements_frozen();

-- What a tenant gets back by its next statement.
CREATE TABLE IF NOT EXISTS billing_credits (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id uuid NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor > 0),
  currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  reason text NOT NULL CHECK (char_length(reason) BETWEEN 1 AND 500),
  created_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- Which one gave it; NULL: none yet.
  statement_id uuid REFERENCES statements (id)
);
CREATE INDEX IF NOT EXISTS billing_credits_open ON billing_credits (tenant_id) WHERE statement_id IS NULL;

-- A credit is given once, and what it says stays.
CREATE OR REPLACE FUNCTION billing_credits_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND OLD.statement_id IS NULL
    AND to_jsonb(NEW) - 'statement_id' = to_jsonb(OLD) - 'statement_id' THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a credit never changes: % is refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
DROP TRIGGER IF EXISTS billing_credits_once ON billing_credits;
CREATE TRIGGER billing_credits_once BEFORE UPDATE OR DELETE ON billing_credits
  FOR EACH ROW EXECUTE FUNCTION billing_credits_once();

-- Who used anything in a month, of all tenants: without it that reads the usage of all years.
CREATE INDEX IF NOT EXISTS customer_usage_daily_date ON customer_usage_daily (date);
