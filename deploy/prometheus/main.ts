import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { asPrometheusRule } from './operator.ts'

// node deploy/prometheus/main.ts: writes the rules for the Prometheus operator, after a change of rules.yml.
const rules = readFileSync(join(import.meta.dirname, 'rules.yml'), 'utf8')
writeFileSync(
  join(import.meta.dirname, '../kubernetes/monitoring/prometheus-rule.yaml'),
  asPrometheusRule(rules),
)
