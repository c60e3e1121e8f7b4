import type { Dashboard, Panel } from './dashboard.ts'

/** Grafana's grid is 24 wide. */
const WIDTH = { stat: 6, timeseries: 8 } as const
const HEIGHT = { stat: 4, timeseries: 8 } as const
const SOURCE = { type: 'prometheus', uid: '$' + '{datasource}' }

/** The text of a dashboard's file, as Grafana's file provisioning reads it. */
export function render({ uid, title, rows }: Dashboard): string {
  const panels: object[] = []
  let y = 0
  for (const row of rows) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title: row.title,
      collapsed: false,
      gridPos: { x: 0, y, w: 24, h: 1 },
      panels: [],
    })
    y += 1
    let x = 0
    let height = 0
    for (const panel of row.panels) {
      const kind = panel.kind ?? 'timeseries'
      const [w, h] = [WIDTH[kind], HEIGHT[kind]]
      if (x + w > 24) {
        x = 0
        y += height
      }
      height = h
      panels.push(panelOf(panel, panels.length + 1, { x, y, w, h }))
      x += w
    }
    y += height
  }
  const dashboard = {
    uid,
    title,
    tags: ['doorman'],
    schemaVersion: 39,
    version: 1,
    editable: false,
    refresh: '30s',
    time: { from: 'now-3h', to: 'now' },
    templating: {
      list: [{ name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Prometheus' }],
    },
    panels,
  }
  return `${JSON.stringify(dashboard, null, 1)}\n`
}

function panelOf(panel: Panel, id: number, gridPos: object): object {
  const { title, help, unit, kind = 'timeseries', queries } = panel
  return {
    id,
    type: kind,
    title,
    description: help,
    datasource: SOURCE,
    gridPos,
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    options:
      kind === 'stat'
        ? { reduceOptions: { calcs: ['lastNotNull'] }, textMode: 'value_and_name' }
        : { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi' } },
    targets: Object.entries(queries).map(([legendFormat, expr], i) => ({
      refId: String.fromCharCode(65 + i),
      datasource: SOURCE,
      expr,
      legendFormat,
    })),
  }
}
