/*
 * The samplesheet, checked as a whole with the files it names, then split into one item for each modality.
 */

include { SCMODAL_VALIDATE as VALIDATE } from '../../../modules/nf-scmodal/scmodal/validate'

workflow SAMPLESHEET {
    take:
    sheet   // path
    model   // folder of a trained model whose new cells the rows are, or []
    genes   // path: BED or GTF, for chromatin, or []
    options // map: validate_files, and label_key and batch_key for rows that have none

    main:
    // Files are staged beside the sheet so that every problem is told at once; one that is missing is left for
    // `scmodal validate` to name. `rows` are their row numbers.
    staged = options.validate_files ? stagedFiles(sheet) : [:]
    VALIDATE([[id: 'samplesheet'], sheet, staged.keySet() as List, staged.values() as List], model, genes)

    modalities = VALIDATE.out.csv.flatMap { _meta, csv -> modalityItems(csv, sheet, options) }

    emit:
    modalities // [[id, modality, order, n_modalities, label_key, batch_key], [files]]
}

// Row number -> file, for every row whose file is there (or is somewhere else than on this machine).
def stagedFiles(sheet) {
    return pathColumn(sheet)
        .collectEntries { row, path -> [row, resolve(path, sheet)] }
        .findAll { _row, found -> found != null }
}

// Row number -> what the column `path` says. Rows are counted as `scmodal validate` does: blank ones are not. What is
// wrong with the sheet is for VALIDATE to tell.
def pathColumn(sheet) {
    def text = new String(sheet.bytes, charsetOf(sheet)).replaceFirst('^\uFEFF', '').replaceAll('\r\n?', '\n')
    def first = text.readLines().find { line -> trimmed(line) } ?: ''
    def preferred = sheet.name.toLowerCase() ==~ /.*\.(tsv|tab|txt)/ ? '\t' : ','
    def separator = [preferred, ',', '\t', ';'].find { character -> pathAt(csvRows(first, character)[0]) >= 0 }
    def rows = separator ? csvRows(text, separator).findAll { fields -> fields.any() } : []
    if (!rows) {
        return [:]
    }
    def column = pathAt(rows[0])
    return column < 0 ? [:] : rows.withIndex().drop(1).collectEntries { fields, row -> [row, fields[column]] }.findAll { _row, path -> path }
}

// Place of the column `path` in a header, -1 where it has none.
def pathAt(header) {
    return header ? header.findIndexOf { name -> name.toLowerCase() == 'path' } : -1
}

// Rows of fields, read as Python's csv module does for `scmodal validate`: it forgives what `splitCsv` stops at, such as
// line breaks and quotes within fields.
def csvRows(text, separator) {
    def rows = [[]]
    def field = new StringBuilder()
    def state = 'start'
    (text + '\n').each { character ->
        if (state == 'quoted') {
            if (character == '"') {
                state = 'closing'
            }
            else {
                field << character
            }
        }
        else if (state == 'closing' && character == '"') {
            field << character
            state = 'quoted'
        }
        else if (character == '\n' || character == separator) {
            rows[-1] << trimmed(field.toString())
            field.setLength(0)
            state = 'start'
            if (character == '\n') {
                rows << []
            }
        }
        else if (state == 'start' && character == '"') {
            state = 'quoted'
        }
        else if (state != 'start' || character != ' ') {
            field << character
            state = 'plain'
        }
    }
    rows[-1] << trimmed(field.toString()) // of a quote that nothing closes
    return rows
}

// Without white space at both ends, that of spreadsheets and web pages (U+00A0) among it.
def trimmed(text) {
    return text.replaceAll('(?U)^\\s+|\\s+$', '')
}

// Encoding in which to read the sheet: those that `scmodal validate` reads, else one in which every byte is a letter, so
// that it is VALIDATE that says what is wrong.
def charsetOf(sheet) {
    def bytes = sheet.bytes
    def start = (bytes as List).take(2).collect { value -> value & 0xFF }
    if (start in [[0xFF, 0xFE], [0xFE, 0xFF]]) {
        return 'UTF-16'
    }
    return new String(bytes, 'UTF-8').contains('\uFFFD') ? 'ISO-8859-1' : 'UTF-8'
}

// A path relative to the samplesheet's folder, else to the launch folder; null if there is no such file here.
def resolve(path, sheet) {
    if (path ==~ /^[A-Za-z][A-Za-z0-9+.-]*:\/\/.*/) {
        return file(path, glob: false)
    }
    def candidates = path.startsWith('/') ? [file(path, glob: false)] : [sheet.parent.resolve(path), workflow.launchDir.resolve(path)]
    return candidates.find { candidate -> candidate.exists() }
}

// Name of a column: the first that these rows give, else the parameter's, which a name like `2` makes a number of.
def keyOf(rows, options, name) {
    def given = options[name] == null ? '' : "${options[name]}".toString()
    return rows.findResult { row -> row[name] ?: null } ?: given
}

// One item for each modality of each sample in a checked samplesheet.
def modalityItems(csv, sheet, options) {
    def rows = csv.splitCsv(header: true, quote: '"')
    def modalities = rows.groupBy { row -> row.sample }.collectEntries { id, own -> [id, own.collect { row -> row.modality }.unique().size()] }
    return rows
        .groupBy { row -> [row.sample, row.modality] }
        .collect { key, own ->
            def meta = [
                id: key[0],
                modality: key[1],
                order: own[0].order as Integer,
                n_modalities: modalities[key[0]],
                label_key: keyOf(own, options, 'label_key'),
                batch_key: keyOf(own, options, 'batch_key'),
            ]
            def files = own.collect { row -> resolve(row.path, sheet) ?: error("Samplesheet ${sheet}: ${row.path} was not found") }
            [meta, files]
        }
}
