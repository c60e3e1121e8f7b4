/** Oldest release with the fix of CVE-2026-58044 (a header past the count limit still framed the body). */
const NODE_MIN = [22, 23, 2] as const

/** True where `version` ("v24.1.0") is at least NODE_MIN. */
export function runtimeIsSafe(version: string): boolean {
  const have = version.replace(/^v/, '').split('.').map(Number)
  for (const [i, least] of NODE_MIN.entries()) {
    const part = have[i] ?? 0
    if (part !== least) return part > least
  }
  return true
}

/** Ends the process with one clear line on a Node that lets request smuggling through. */
export function requireSafeRuntime(version: string = process.version): void {
  if (runtimeIsSafe(version)) return
  process.stderr.write(
    `doorman: Node ${version} is too old (needs ${NODE_MIN.join('.')} or later). ` +
      'Start it by npm: "npm run" uses the Node 24 that "npm ci" installed.\n',
  )
  process.exit(1)
}
