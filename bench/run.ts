import { mkdir, writeFile } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import { dirname, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { benchConnections } from './connections/run.ts'
import { benchControlPlane } from './control-plane.ts'
import { benchCost } from './costs.ts'
import { benchMetering } from './metering.ts'
import { benchMigrations } from './migrations/run.ts'
import { benchNoisyNeighbour, noisyOptions } from './noisy-neighbour.ts'
import { HELP, type Options, parseOptions } from './options.ts'
import { PEERS } from './peers/all.ts'
import type { Peer } from './peers/peer.ts'
import { renderProfile } from './profile.ts'
import { renderPage } from './report/page.ts'
import type { PeerFacts, Results, ScenarioResult } from './report/results.ts'
import { renderTable } from './report/table.ts'
import { runScenario } from './rounds.ts'
import { SCENARIOS } from './scenarios/all.ts'
import { setScene } from './scene.ts'

/** `npm run bench`: see --help and bench/README.md. */
main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})

async function main(args: readonly string[]): Promise<void> {
  const cost = args.length === 1 ? await benchCost(args[0] as string) : null
  if (cost !== null) {
    process.stdout.write(cost)
    return
  }
  if (args[0] === 'noisy-neighbour') {
    process.stdout.write(await benchNoisyNeighbour(noisyOptions(args.slice(1)), progress))
    return
  }
  if (args[0] === 'metering' && args.length <= 2 && /^\d{1,8}$/.test(args[1] ?? '1000000')) {
    await benchMetering(Number(args[1] ?? 1_000_000))
    return
  }
  if (args[0] === 'connections' && args.slice(1).every(arg => arg === '--quick')) {
    process.stdout.write(await benchConnections(args.length > 1, progress))
    return
  }
  if (args.length === 1 && args[0] === 'registry') {
    process.stdout.write(await benchControlPlane())
    return
  }
  if (args[0] === 'migrations' && args.length <= 2 && /^\d{1,5}$/.test(args[1] ?? '1000')) {
    process.stdout.write(await benchMigrations(Number(args[1] ?? 1000), progress))
    return
  }
  const options = parseOptions(args)
  if (options === 'help') {
    process.stdout.write(HELP)
    return
  }
  if (options === 'list') return list()
  const found = await findPeers(options.peers)
  const results = await runAll(options, found, `npm run bench -- ${args.join(' ')}`.trim())
  await writeReports(options, results)
  const failures = results.scenarios.flatMap(({ name, peers }) =>
    peers.filter(peer => peer.failure !== null).map(peer => `${name}/${peer.name}`),
  )
  if (failures.length > 0) throw new Error(`not measured: ${failures.join(', ')}`)
}

type Found = readonly { readonly peer: Peer; readonly version: string }[]

async function findPeers(peers: readonly Peer[]): Promise<Found> {
  const found: { peer: Peer; version: string }[] = []
  for (const peer of peers) {
    const version = await peer.find()
    if (version === null) progress(`${peer.name}: not found here, left out`)
    else found.push({ peer, version })
  }
  if (found.every(({ peer }) => peer.name === 'direct')) throw new Error('no proxy to measure')
  return found
}

async function runAll(options: Options, found: Found, command: string): Promise<Results> {
  const peers = found.map(({ peer }) => peer)
  const tenantCount = Math.max(...options.scenarios.map(({ traffic }) => traffic.tenants))
  progress(`setting up: ${tenantCount} tenants, upstream, load generator`)
  const startedAt = new Date().toISOString()
  const scene = await setScene(
    tenantCount,
    peers.some(({ name }) => name === 'doorman'),
    options.isProfiled,
  )
  const onSignal = () => {
    scene.stop().finally(() => process.exit(130))
  }
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  const scenarios: ScenarioResult[] = []
  try {
    for (const scenario of options.scenarios) {
      const result = await runScenario(scene, scenario, peers, {
        rounds: options.rounds,
        seconds: options.seconds,
        reference: referenceOf(peers),
        progress,
      })
      scenarios.push(result)
      process.stdout.write(`${renderTable(result)}\n`)
      if (scene.profileDir !== null) {
        const text = await renderProfile(scene.profileDir)
        process.stdout.write(`\n${scenario.name}: Doorman's own time by function\n${text}`)
      }
    }
  } finally {
    await scene.stop()
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
  }
  return {
    command,
    startedAt,
    machine: describeMachine(),
    pinning: scene.pinning,
    rounds: options.rounds,
    seconds: options.seconds,
    peers: found.map(factsOf),
    scenarios,
  }
}

/** HAProxy, or where it is missing the first proxy that is not ours. */
function referenceOf(peers: readonly Peer[]): string {
  const others = peers.filter(({ name }) => name !== 'direct' && name !== 'doorman')
  const reference = others.find(({ name }) => name === 'haproxy') ?? others[0] ?? peers[0]
  return reference?.name ?? ''
}

async function writeReports(options: Options, results: Results): Promise<void> {
  const stamp = results.startedAt.replace(/[:.]/g, '-')
  const files = [
    [options.jsonFile ?? beside(`results/${stamp}.json`), `${JSON.stringify(results, null, 2)}\n`],
    [options.htmlFile ?? beside('report.html'), renderPage(results)],
  ] as const
  process.stdout.write('\n')
  for (const [file, text] of files) {
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text)
    process.stdout.write(`wrote ${relative(process.cwd(), file)}\n`)
  }
}

async function list(): Promise<void> {
  for (const { name, title } of SCENARIOS) process.stdout.write(`${name.padEnd(14)} ${title}\n`)
  process.stdout.write('\n')
  for (const peer of PEERS) {
    const version = (await peer.find()) ?? 'not found here'
    process.stdout.write(`${peer.name.padEnd(14)} ${version}\n${' '.repeat(15)}${peer.does}\n`)
  }
}

function factsOf({ peer, version }: Found[number]): PeerFacts {
  return { name: peer.name, version, does: peer.does, isFullJob: peer.isFullJob }
}

function describeMachine(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown CPU'
  const memory = Math.round(totalmem() / 2 ** 30)
  return `${cpus().length} × ${model}, ${memory} GB, ${process.platform} ${release()}, Node ${process.version}`
}

function beside(file: string): string {
  return fileURLToPath(new URL(file, import.meta.url))
}

function progress(line: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`)
}
