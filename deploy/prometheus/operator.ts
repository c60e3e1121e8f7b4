/** The rules as the Prometheus operator takes them: the same text, one level deeper. */
export function asPrometheusRule(rules: string): string {
  const groups = rules.slice(rules.indexOf('groups:'))
  const lines = groups.trimEnd().split('\n')
  return `# Made of deploy/prometheus/rules.yml by: node deploy/prometheus/main.ts
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: doorman
  labels: { app.kubernetes.io/part-of: doorman }
spec:
${lines.map(line => (line === '' ? '' : `  ${line}`)).join('\n')}
`
}
