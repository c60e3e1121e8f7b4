import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DASHBOARDS } from './dashboards.ts'
import { render } from './render.ts'

// node deploy/grafana/main.ts: writes the files that Grafana reads anew, after a change of a dashboard.
for (const dashboard of DASHBOARDS) {
  writeFileSync(join(import.meta.dirname, 'dashboards', `${dashboard.uid}.json`), render(dashboard))
}
