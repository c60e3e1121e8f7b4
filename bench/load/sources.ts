/** Loopback addresses to connect from: each brings its own 28,000 ports (Linux; elsewhere one). */
const SOURCES = process.platform === 'linux' ? 100 : 0

/** Addresses in turn: 127.0.0.2, 127.0.0.3, … */
export function makeSources(): () => string {
  let position = 0
  return () => {
    if (SOURCES === 0) return ''
    position = (position + 1) % SOURCES
    return `127.0.0.${position + 2}`
  }
}
