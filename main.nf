#!/usr/bin/env nextflow
/*
 * scMODAL for Nextflow: single-cell data sets of different modalities in, one latent space out.
 */

include { NEW_CELLS ; SCMODAL                                    } from './workflows/scmodal'
include { checkParameters ; helpText ; parametersFile ; seedList } from './subworkflows/local/parameters'
include { writeMethods                                           } from './subworkflows/local/methods'

workflow {
    main:
    if (params.help) {
        print(helpText())
    }
    else {
        checkParameters(params)
        def sheet = file(params.input, checkIfExists: true, glob: false)
        def parameters = parametersFile(params)
        def genes = params.genes ? file(params.genes, checkIfExists: true, glob: false) : []
        if (params.model) {
            writeMethods(params, [])
            log.info("scMODAL ${workflow.manifest.version}: ${params.input} -> ${params.outdir} (new cells on the model ${params.model})")

            NEW_CELLS(sheet, file(params.model, checkIfExists: true, glob: false), genes, params)
        }
        else {
            log.info("scMODAL ${workflow.manifest.version}: ${params.input} -> ${params.outdir} (preset ${params.preset}, ${params.seeds} seed${params.seeds > 1 ? 's' : ''})")

            SCMODAL(
                sheet,
                params.links ? file(params.links, checkIfExists: true, glob: false) : [],
                genes,
                params.fasta ? file(params.fasta, checkIfExists: true, glob: false) : [],
                seedList(params),
                parameters,
                params,
            )
            // Once it is known what the samples' modalities are.
            SCMODAL.out.integrated
                .map { meta, _h5mu -> meta }
                .collect()
                .subscribe { samples -> writeMethods(params, samples) }
        }
    }

    workflow.onComplete = {
        if (workflow.success && !params.help) {
            def reports = params.model ? [] : files("${params.outdir}/report/*.html")
            def place = params.model ? "Embedded cells: ${params.outdir}/<sample>/embed" : "Reports: ${reports ? reports.join(', ') : "${params.outdir}/report"}"
            log.info("Done in ${workflow.duration}. ${place}")
        }
        else if (!workflow.success) {
            log.error("Stopped. ${reason(workflow.errorMessage ?: workflow.errorReport)}")
        }
    }
}

// What a failed step said in the end: its list of problems, else (a file that could not be fetched) the cause that
// Nextflow gives, else its last line.
def reason(message) {
    def lines = (message ?: 'See .nextflow.log.').readLines().findAll { line -> line.trim() }
    def start = lines.findIndexOf { line -> line.startsWith('Error: ') }
    def cause = lines.findIndexOf { line -> line.startsWith('Caused by:') }
    if (start < 0 && cause in (0..<lines.size() - 1)) {
        return lines[cause + 1].trim()
    }
    return start < 0 ? lines[-1] : lines.drop(start).join('\n')
}
