#!/usr/bin/env nextflow
/*
 * scMODAL for Nextflow: single-cell data sets of different modalities in, one latent space out.
 */

include { SCMODAL                                               } from './workflows/scmodal'
include { checkParameters ; helpText ; parametersFile ; seedList } from './subworkflows/local/parameters'

workflow {
    main:
    if (params.help) {
        print(helpText())
    }
    else {
        checkParameters(params)
        log.info("scMODAL ${workflow.manifest.version}: ${params.input} -> ${params.outdir} (preset ${params.preset}, ${params.seeds} seed${params.seeds > 1 ? 's' : ''})")

        SCMODAL(
            file(params.input, checkIfExists: true, glob: false),
            params.links ? file(params.links, checkIfExists: true, glob: false) : [],
            seedList(params),
            parametersFile(params),
            params,
        )
    }

    workflow.onComplete = {
        if (workflow.success && !params.help) {
            def reports = files("${params.outdir}/report/*.html")
            log.info("Done in ${workflow.duration}. Reports: ${reports ? reports.join(', ') : "${params.outdir}/report"}")
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
