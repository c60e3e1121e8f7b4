import type { Outcome, Probe, Verdict } from './verdict.ts'

/** A probe, what came of it, and how that is scored. */
export interface Scored {
  readonly probe: Probe
  readonly outcome: Outcome
  readonly verdict: Verdict
}

/** Why a verdict is not a pass, by the probe's name. Each one is a choice. */
export const DEVIATIONS: Readonly<Record<string, string>> = {
  'a blank after the length': ows(),
  'two blanks before the length': ows(),
  'a tab before the length': ows(),
  'absolute-form that agrees with Host':
    'RFC 9112 3.2.2 obliges a server to accept it; it is forwarded in origin-form. The newest state of Http11Probe passes it.',
  'GET with a body':
    'Lawful (RFC 9110 9.3.1). The body is framed anew, so no peer can overlook it.',
  'HTTP/1.0 without Host': 'Lawful (RFC 9112 3.2). The replica gets a Host of ours.',
  'HTTP/1.2': '505, as for every version but 1.0 and 1.1.',
  Transfer_Encoding: 'Dropped, so that the app sees the length alone.',
  'Expect with its body at once': 'Lawful (RFC 9110 10.1.1). Expect ends at the gateway.',
  'Host as trailer': trailer(),
  'a credential as trailer': trailer(),
  'a content type as trailer': trailer(),
  'HEAD with a body': 'Lawful. The body is framed anew.',
  'OPTIONS with a body': 'Lawful (RFC 9110 9.3.7). The body is framed anew.',
  'a byte behind an empty body':
    'The first request is served; the byte spoils the second one, which is 400 and closes.',
}

function ows(): string {
  return 'RFC 9110 5.5 takes blanks around a value away before it is read, and clients may rely on it.'
}

function trailer(): string {
  return 'Trailers are read, bounded and dropped: none reaches the app.'
}

/** What SCORES.md says, made from the results. */
export function renderScores(all: readonly Scored[]): string {
  const february = all.filter(({ probe }) => probe.scored === 'both' || probe.scored === 'then')
  const newest = all.filter(({ probe }) => probe.scored === 'both' || probe.scored === 'now')
  const own = all.filter(({ probe }) => probe.peer === null)
  const rest = all.filter(({ probe }) => probe.scored === 'no' && probe.peer !== null)
  return [
    '# Scores',
    '',
    'What the gateway does with messages that are malformed, ambiguous or rare. `deploy/e2e/http-probe.test.ts`',
    'sends each of them to the real binary with a valid token, and an app behind it keeps what reaches it. The',
    'test fails where a line here is not what it saw; `DOORMAN_WRITE_SCORES=1` makes it write this file.',
    '',
    'The questions of [Http11Probe](https://github.com/MDA2AV/Http11Probe) are asked by messages of our own and scored by',
    'its rules: a *pass* is what the standard wants, a *warn* is lenient where it allows that, the rest is a *fail*. Its tests of',
    'caching and most of those of cookies are left out: they ask what an app does, and are not scored. Questions to the app itself',
    '(405, OPTIONS, echoes) are answered by the app of the test. A request that is refused never reaches it, one that is served',
    'reaches it once, with one context of its own tenant.',
    '',
    '| set | pass | warn | fail | of |',
    '|---|---|---|---|---|',
    sum('Http11Probe of 12 February 2026', february),
    sum('Http11Probe of 17 February 2026, its newest', newest),
    sum('its questions about smuggling among them', newest.filter(isSmuggling)),
    sum('its questions that are not scored', rest),
    sum('our own', own),
    '',
    'In February the best of the servers listed there passed 112 of 125, and Node’s own server 93.',
    '',
    '## Deviations',
    '',
    '| message | verdict | why |',
    '|---|---|---|',
    ...all
      .filter(({ verdict }) => verdict !== 'pass')
      .map(({ probe, verdict }) => `| ${probe.id} | ${verdict} | ${DEVIATIONS[probe.id] ?? '?'} |`),
    '',
    '## Messages',
    '',
    '| message | of Http11Probe | source | wanted | got | verdict |',
    '|---|---|---|---|---|---|',
    ...all.map(row),
    '',
  ].join('\n')
}

export const isSmuggling = ({ probe }: Scored) => probe.peer?.startsWith('SMUG-') === true

function sum(name: string, scored: readonly Scored[]): string {
  const count = (verdict: Verdict) => scored.filter(one => one.verdict === verdict).length
  return `| ${name} | ${count('pass')} | ${count('warn')} | ${count('fail')} | ${scored.length} |`
}

function row({ probe, outcome, verdict }: Scored): string {
  const { id, peer, source, rule, scored } = probe
  const name = peer === null ? '' : `${peer}${scored === 'no' ? ' (not scored)' : ''}`
  return `| ${[id, name, source, rule.text, gotOf(outcome), verdict].map(escaped).join(' | ')} |`
}

function gotOf({ status, isClosed, second }: Outcome): string {
  const first = status === null ? (isClosed ? 'close' : 'silence') : String(status)
  return second === null ? first : `${first}, then ${second.status ?? 'close'}`
}

/** Control bytes and bars never stand in a name; asterisks and underscores do. */
function escaped(text: string): string {
  return text.replace(/[*_|]/g, '\\$&')
}
