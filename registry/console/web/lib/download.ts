/** A gateway would have to keep it; so the page makes the file of what it was told. */
export function download(name: string, type: string, parts: readonly string[]): void {
  const url = URL.createObjectURL(new Blob([...parts], { type }))
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  // After the click has been taken.
  setTimeout(() => URL.revokeObjectURL(url), 1000)
}
