import { readSource } from '../../checks/sources.ts'

/** What a section of a document has an operator type: its blocks of shell, and what it says in line. */
export function commandsOf(
  doc: string,
  heading: string,
): { readonly blocks: readonly string[]; readonly inline: readonly string[] } {
  const section = readSource(doc)
    .split(/^## /m)
    .find(text => text.startsWith(`${heading}\n`))
  if (section === undefined) throw new Error(`${doc} has no section ${heading}`)
  const fence = /^ *```sh\n([\s\S]*?)^ *```/gm
  return {
    blocks: [...section.matchAll(fence)].map(([, block = '']) => block),
    inline: [...section.replace(fence, '').matchAll(/`([^`\n]+)`/g)].map(([, text = '']) => text),
  }
}
