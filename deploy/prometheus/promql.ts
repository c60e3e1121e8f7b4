import { parser } from '@prometheus-io/lezer-promql'

/** One metric that a query reads, and how. */
export interface Selector {
  readonly metric: string
  readonly matchers: readonly {
    readonly label: string
    readonly op: string
    readonly value: string
  }[]
  /** Labels that it is grouped by further out. */
  readonly groupedBy: readonly string[]
  /** Functions around it, the innermost first. */
  readonly functions: readonly string[]
}

export interface Query {
  /** null: it parses. */
  readonly problem: string | null
  readonly selectors: readonly Selector[]
}

type Node = ReturnType<typeof parser.parse>['topNode']

/** @param text PromQL; Grafana's `$__rate_interval` may stand in it */
export function readQuery(text: string): Query {
  const source = text.replaceAll('$__rate_interval', '5m')
  const textOf = ({ from, to }: Node) => source.slice(from, to)
  const selectors: Selector[] = []
  let problem: string | null = null

  const visit = (node: Node, groupedBy: readonly string[], functions: readonly string[]): void => {
    if (node.type.isError) problem ??= `at ${node.from}: ${source.slice(node.from, node.from + 20)}`
    let groups = groupedBy
    let calls = functions
    if (node.name === 'AggregateExpr' || node.name === 'BinaryExpr') {
      const labels = [
        ...node.getChildren('AggregateModifier'),
        ...node.getChildren('MatchingModifierClause'),
      ].flatMap(modifier => modifier.getChildren('GroupingLabels'))
      groups = [...groupedBy, ...labels.flatMap(list => list.getChildren('LabelName').map(textOf))]
    }
    const name = node.getChild('FunctionIdentifier')
    if (node.name === 'FunctionCall' && name !== null) calls = [textOf(name), ...functions]
    if (node.name === 'VectorSelector') selectors.push(selectorOf(node, groups, calls))
    for (let child = node.firstChild; child !== null; child = child.nextSibling) {
      visit(child, groups, calls)
    }
  }
  const selectorOf = (
    node: Node,
    groupedBy: readonly string[],
    functions: readonly string[],
  ): Selector => {
    const matchers = (
      node.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? []
    ).map(matcher => {
      const part = (kind: string) => {
        const child = matcher.getChild(kind)
        return child === null ? '' : textOf(child)
      }
      return {
        label: part('LabelName'),
        op: part('MatchOp'),
        value: part('StringLiteral').slice(1, -1),
      }
    })
    const identifier = node.getChild('Identifier')
    return {
      metric: identifier === null ? '' : textOf(identifier),
      matchers,
      groupedBy,
      functions,
    }
  }
  visit(parser.parse(source).topNode, [], [])
  return { problem, selectors }
}

/** A metric as `/metrics` shows it. */
export interface Shown {
  readonly type: string
  /** Values that were seen, by label. */
  readonly labels: Map<string, Set<string>>
}

/** Adds what an exposition (text format 0.0.4) shows; a histogram is three names. */
export function readExposition(text: string, into: Map<string, Shown>): void {
  for (const [, name = '', type = ''] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    const names =
      type === 'histogram' ? ['_bucket', '_sum', '_count'].map(end => name + end) : [name]
    if (type === 'summary') names.push(`${name}_sum`, `${name}_count`)
    for (const each of names) {
      const shown = into.get(each) ?? { type, labels: new Map<string, Set<string>>() }
      if (each.endsWith('_bucket')) shown.labels.set('le', shown.labels.get('le') ?? new Set())
      into.set(each, shown)
    }
  }
  for (const [, name = '', labels = ''] of text.matchAll(/^([a-zA-Z_:]\w*)\{(.*)\} \S+$/gm)) {
    const shown = into.get(name)
    for (const [, label = '', value = ''] of labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      const values = shown?.labels.get(label) ?? new Set()
      shown?.labels.set(label, values.add(value))
    }
  }
}
